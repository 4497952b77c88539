#include "models/batch_queue.h"

#include <algorithm>
#include <array>

#include "runtime/profile.h"
#include "runtime/stop_signal.h"

namespace sonde {

std::vector<BatchStep> in_turns(std::span<const StoreStretch> work, std::int64_t first) {
  std::int64_t longest = 0;
  for (const StoreStretch& stretch : work)
    longest = std::max(longest, stretch.end_batch - stretch.first_batch);
  std::vector<BatchStep> steps;
  for (std::int64_t turn = 0; turn < longest; ++turn)
    for (std::size_t i = 0; i < work.size(); ++i)
      if (const std::int64_t batch = work[i].first_batch + turn; batch < work[i].end_batch)
        steps.push_back({first + static_cast<std::int64_t>(i), batch, steps.empty()});
  return steps;
}

std::int64_t stretches_at_once(std::int64_t stretches, const MeshShape& shape) {
  constexpr std::int64_t kDraws = 4;  // of a model at least, so that a slow one takes fewer
  return std::clamp<std::int64_t>(stretches / (kDraws * shape.data), 1, shape.tensor);
}

BatchQueue::BatchQueue(std::span<const StoreStretch> work, const Mesh& mesh)
    : work_(work),
      mesh_(mesh),
      at_once_(stretches_at_once(static_cast<std::int64_t>(work.size()), mesh.shape)),
      tickets_(mesh.world->make_tickets()) {}

BatchStep BatchQueue::next() {
  if (stop_requested() && !said_stop_) {  // by any rank: nobody draws any more
    tickets_->close();
    said_stop_ = true;
  }
  std::array<std::int64_t, 2> said{};
  const std::span<std::int64_t> words(said);
  if (mesh_.pipeline_index > 0) {
    mesh_.pipeline->receive(words, mesh_.pipeline_index - 1);
  } else {
    const PhaseScope scope(Phase::communication);
    if (mesh_.tensor_index == 0) draw();
    said = {draw_, at_};
    mesh_.tensor->broadcast(words);
  }
  if (mesh_.stages_behind() > 0)
    mesh_.pipeline->send(std::span<const std::int64_t>(words), mesh_.pipeline_index + 1);
  open(said[0]);
  at_ = said[1];
  return draw_ < 0 ? BatchStep{} : steps_[static_cast<std::size_t>(at_)];
}

void BatchQueue::draw() {
  const auto draws = (static_cast<std::int64_t>(work_.size()) + at_once_ - 1) / at_once_;
  if (tickets_->closed()) {
    open(-1);
  } else if (draw_ < 0 || ++at_ == static_cast<std::int64_t>(steps_.size())) {
    const std::int64_t number = tickets_->next();
    open(number < draws ? number : -1);
    at_ = 0;
  }
}

void BatchQueue::open(std::int64_t number) {
  if (number == draw_) return;
  draw_ = number;
  if (number < 0) return;
  const auto first = static_cast<std::size_t>(number * at_once_);
  steps_ = in_turns(work_.subspan(first, std::min(work_.size() - first, static_cast<std::size_t>(at_once_))),
                    static_cast<std::int64_t>(first));
}

}  // namespace sonde
