// What happens at the points of the forward: edits in the order they were registered, then capture.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "models/edit.h"
#include "models/tensor_group.h"
#include "runtime/capture_sink.h"
#include "runtime/error.h"
#include "runtime/hook.h"

namespace sonde {

// Where a sequence of the batch stands in the run: edits count a document's tokens from its start.
struct Stretch {
  std::int64_t document;         // of the run
  std::int64_t begin = 0;        // the document's token that the sequence begins with
  std::int64_t document_length;  // the document's tokens in all
};

// Keys and values of earlier tokens. The token at position p of document i has row first[i] + p in every
// layer's tables; the forward writes those of this batch and reads what earlier ones left.
struct KeyCache {
  Tensor k, v;  // f32 [layers of this rank's stage, rows, K * E]
  std::span<const std::int32_t> first;
};

// A flat batch: T tokens of one or more documents.
struct Batch {
  std::span<const std::int32_t> ids;        // [T]
  std::span<const std::int32_t> positions;  // [T] of the token in its sequence
  Documents documents;
  std::span<const std::int32_t> selected;   // tokens to capture, ascending indices into the batch
  std::span<const Stretch> stretches = {};  // one per sequence; empty: whole documents 0, 1, ...
  const KeyCache* cache = nullptr;
};

// What a sink gets of a point whose columns the ranks of a tensor group share out.
enum class Columns : bool { whole, own };

class Hooks {
 public:
  Hooks(Backend& backend, std::int64_t n_layers);

  void capture(std::span<const Site> sites, CaptureSink& sink, Columns columns = Columns::whole);
  // From the next batch on: of the ranks that share a layer one takes what is captured, and the others help
  // it where they hold columns. Until then all take it.
  void take_captures(int rank, bool here) {
    taker_ = rank;
    takes_ = here;
  }
  void edit(Edit edit, const HookSizes& sizes);  // checks it

  bool active(Site site) const { return flags_[index(site)] != 0; }
  bool edited(Site site) const { return (flags_[index(site)] & kEdited) != 0; }
  // Layers that must run, and whether the final norm and head must, so that every active point is reached.
  std::int64_t layers_needed() const;
  bool needs_final_norm() const;
  bool needs_logits() const { return active({Hook::logits}); }

  void begin_batch(const Batch& batch);
  void end_batch() { deliver(0); }  // hands over what was captured and is still on its way
  // From here on, tensors hold only the selected tokens' rows (the last layer's tail).
  void keep_selected_rows() { reduced_ = true; }

  // The point itself. x [n, ...]: rows first_row .. first_row + n of the batch (or of the selected tokens).
  void at(Site site, Tensor x, std::int64_t first_row = 0) {
    if (flags_[index(site)] != 0) run(site, x, first_row);
  }
  // Where a rank of `group` holds some columns of x: edits see the whole row and each rank takes its part of
  // it; what is captured is whole, unless the sink takes its own columns.
  void at(Site site, Tensor x, TensorGroup& group, std::int64_t first_row = 0) {
    if (flags_[index(site)] != 0) run(site, x, group, first_row);
  }

 private:
  static constexpr std::uint8_t kCaptured = 1, kEdited = 2;

  std::size_t index(Site site) const {
    sonde_check(site.layer >= 0 && site.layer < n_layers_, "layer {} of {}", site.layer, n_layers_);
    return static_cast<std::size_t>(site.hook) * static_cast<std::size_t>(n_layers_) +
           static_cast<std::size_t>(site.layer);
  }
  // What an edit chose of one sequence of the batch.
  struct Choice {
    std::vector<std::int32_t> positions;  // all that it chose of the document
    std::int64_t first;                   // of these, the first that the sequence holds
    std::int64_t at, n;                   // these tokens are Chosen::tokens[at .. at + n)
    std::vector<std::int32_t> keys;       // of scores and patterns
  };
  struct Chosen {
    std::vector<std::int32_t> tokens;  // of the batch, ascending
    std::vector<Choice> sequences;
  };
  Chosen choose(const Edit& edit, const Batch& batch) const;
  void run(Site site, Tensor x, std::int64_t first_row);
  void run(Site site, Tensor x, TensorGroup& group, std::int64_t first_row);
  bool captured(Site site) const { return (flags_[index(site)] & kCaptured) != 0; }
  void edit_rows(Site site, Tensor x, std::int64_t first_row);
  void capture_rows(Site site, Tensor x, std::int64_t first_row, TensorGroup* group = nullptr);
  void run(const Edit& edit, const Chosen& chosen, Tensor x, std::int64_t first_row);
  // Rows of x that hold these ascending tokens, and which of them those are.
  struct Found {
    std::vector<std::int32_t> rows, index;
  };
  Found find(std::span<const std::int32_t> tokens, std::int64_t first_row, std::int64_t n) const;
  Tensor gathered(Tensor x, std::span<const std::int32_t> rows);
  PackedRows packed(Tensor x, std::span<const std::int32_t> rows, const Packing& packing);
  void deliver(std::size_t left);  // to the sink, until so many captures are on their way

  Backend& backend_;
  std::int64_t n_layers_;
  std::vector<std::uint8_t> flags_;  // [hook][layer]
  CaptureSink* sink_ = nullptr;
  Columns columns_ = Columns::whole;
  int taker_ = TensorGroup::kAll;  // rank of the tensor group
  bool takes_ = true;              // it is this one
  std::vector<Edit> edits_;
  std::vector<Chosen> chosen_;          // per edit
  std::vector<std::int32_t> selected_;  // tokens of this batch to capture
  std::vector<std::int32_t> starts_;    // of the batch's sequences
  std::vector<std::int64_t> documents_;
  bool reduced_ = false;
  Buffer gathered_;    // of a capture, packed or not
  Buffer whole_rows_;  // of a capture by several ranks, on the host
  std::unique_ptr<RowCopies> copies_;
  std::deque<std::pair<Site, std::int64_t>> on_the_way_;  // in copies_: site, first row
  Buffer given_, values_;                                 // of an edit, on the host and where it runs
};

}  // namespace sonde
