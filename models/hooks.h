// What happens at the points of the forward: edits in the order they were registered, then capture.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "models/token_selector.h"
#include "runtime/capture_sink.h"
#include "runtime/error.h"
#include "runtime/hook.h"

namespace sonde {

// A flat batch: T tokens of one or more documents.
struct Batch {
  std::span<const std::int32_t> ids;        // [T]
  std::span<const std::int32_t> positions;  // [T] of the token in its sequence
  Documents documents;
  std::span<const std::int32_t> selected;  // tokens to capture, ascending indices into the batch
};

enum class EditOp { replace, add, scale, zero, project_out };

// Data, not code: executed by ops at its site, on the selected tokens of every document.
struct Edit {
  Site site;
  EditOp op;
  TokenSelector tokens;
  OwnedTensor value;      // f32 [1, width] for replace and add; [r, width], any r rows, for project_out
  float coefficient = 1;  // of add; factor of scale
};

class Hooks {
 public:
  Hooks(Backend& backend, std::int64_t n_layers);

  void capture(std::span<const Site> sites, CaptureSink& sink);
  // Checks the value against the row width; orthonormalises a project_out basis (rank-deficient rows drop
  // out).
  void edit(Edit edit, const HookSizes& sizes);

  bool active(Site site) const { return flags_[index(site)] != 0; }
  bool edited(Site site) const { return (flags_[index(site)] & kEdited) != 0; }
  // Layers that must run, and whether the final norm and head must, so that every active point is reached.
  std::int64_t layers_needed() const;
  bool needs_final_norm() const;
  bool needs_logits() const { return active({Hook::logits}); }

  void begin_batch(const Batch& batch);
  // From here on, tensors hold only the selected tokens' rows (the last layer's tail).
  void keep_selected_rows() { reduced_ = true; }

  // The point itself. x [n, ...]: rows first_row .. first_row + n of the batch (or of the selected tokens).
  void at(Site site, Tensor x, std::int64_t first_row = 0) {
    if (flags_[index(site)] != 0) run(site, x, first_row);
  }

 private:
  static constexpr std::uint8_t kCaptured = 1, kEdited = 2;

  std::size_t index(Site site) const {
    sonde_check(site.layer >= 0 && site.layer < n_layers_, "layer {} of {}", site.layer, n_layers_);
    return static_cast<std::size_t>(site.hook) * static_cast<std::size_t>(n_layers_) +
           static_cast<std::size_t>(site.layer);
  }
  void run(Site site, Tensor x, std::int64_t first_row);
  void apply(const Edit& edit, Tensor x, std::span<const std::int32_t> rows);
  Tensor scratch(std::int64_t rows, Tensor like);

  Backend& backend_;
  std::int64_t n_layers_;
  std::vector<std::uint8_t> flags_;  // [hook][layer]
  CaptureSink* sink_ = nullptr;
  std::vector<Edit> edits_;
  std::vector<std::vector<std::int32_t>> edit_tokens_;  // per edit: tokens of this batch
  std::vector<std::int32_t> selected_;                  // tokens of this batch to capture
  bool reduced_ = false;
  Buffer scratch_;
};

}  // namespace sonde
