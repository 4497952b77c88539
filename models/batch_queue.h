// Which batches a model's ranks run, in which order, and which of its tensor ranks writes each.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "distributed/mesh.h"
#include "io/activation_store.h"

namespace sonde {

// A batch of the plan's part, in a stretch of the common list.
struct BatchStep {
  std::int64_t stretch = -1, batch = 0;  // stretch -1: there is nothing more to run
  bool begins_draw = false;
};

// Stretches that are run together, a batch of each in turn: each of the ranks that share a layer writes one,
// and all their disks are at work. The first of `work` is number `first` of the whole list.
std::vector<BatchStep> in_turns(std::span<const StoreStretch> work, std::int64_t first);

// How many stretches a model draws at once: one for each tensor rank, fewer where the models would not end
// together.
std::int64_t stretches_at_once(std::int64_t stretches, const MeshShape& shape);

// The very first rank of a model draws from a queue of all models and tells its tensor group; each stage
// tells the next one, so that no stage waits for those behind.
class BatchQueue {
 public:
  BatchQueue(std::span<const StoreStretch> work, const Mesh& mesh);

  BatchStep next();
  int writer_of(const BatchStep& step) const { return static_cast<int>(step.stretch % mesh_.shape.tensor); }

 private:
  void draw();
  void open(std::int64_t number);  // of the draw that is run; -1: none

  const std::span<const StoreStretch> work_;
  const Mesh& mesh_;
  const std::int64_t at_once_;
  const std::unique_ptr<Tickets> tickets_;
  std::int64_t draw_ = -1, at_ = 0;  // the draw, and the step of it
  std::vector<BatchStep> steps_;     // of the draw
  bool said_stop_ = false;
};

}  // namespace sonde
