// Edits: what a run changes at the points of the forward. Data, not code: executed by ops at their site, on
// the chosen tokens of every document.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/token_selector.h"
#include "runtime/hook.h"

namespace sonde {

enum class EditOp { replace, add, scale, zero, mean_ablate, project_out, clamp, mask_scores };

// Values that differ from token to token: of another run, or a file with a row per token.
class EditRows {
 public:
  virtual ~EditRows() = default;
  // out f32 [1, ...] as at the site: the row of the token at position chosen[index] of a document of the run.
  // `chosen`: positions of all tokens that the edit chose of it. An Error where there is no such row.
  virtual void read(Tensor out, std::int64_t document, std::span<const std::int32_t> chosen,
                    std::int64_t index) const = 0;
  // An Error now where read would be one later.
  virtual void check(std::int64_t document, std::span<const std::int32_t> chosen) const = 0;
};

struct Edit {
  Site site;
  EditOp op;
  TokenSelector tokens;
  std::vector<std::int64_t> heads = {};       // of sites with heads: only these; empty: the whole row
  std::optional<TokenSelector> keys = {};     // of scores and patterns: only these keys
  std::optional<float> number = {};           // fills the row, for replace and add
  OwnedTensor value = {};                     // f32 [1, width], or for project_out [r, width]: the basis
  std::shared_ptr<const EditRows> rows = {};  // instead of value, for replace and add
  float coefficient = 1;                      // of add; factor of scale
  float least = 0, most = 0;                  // of clamp
  std::string where = {};                     // names it in errors; empty: the site does
};

// A document of the run, as edits see it.
struct EditedDocument {
  std::int64_t number;  // in the run
  std::string id;       // for errors
  std::int64_t length;  // tokens that run
  std::int64_t keys;    // of a row of scores or a pattern; 0: they differ from piece to piece
};

// Checks the edit against its site and completes it: a project_out basis is orthonormalised (rows that depend
// on others drop out). Errors name the site, what was found and what was expected.
void check_edit(Edit& edit, const HookSizes& sizes);
// Before anything runs: every document has the tokens and keys that the edits choose, and the values fit.
void check_edits(std::span<const Edit> edits, const HookSizes& sizes, const EditedDocument& document);

// Changes the given rows of x [n, ...]. values f32 [rows, width]: what Edit::rows gave for them, else empty.
// keys: those that Edit::keys chose, or all, of scores and patterns.
void apply_edit(Backend& backend, const Edit& edit, Tensor x, std::span<const std::int32_t> rows,
                Tensor values, std::span<const std::int32_t> keys);

}  // namespace sonde
