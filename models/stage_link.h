// The ranks of a pipeline, as the forward and its callers see them: the residual stream goes from stage to
// stage, from device to device where these have joined. What the last one finds comes back to all. Alone,
// nothing happens.
#pragma once

#include <span>

#include "models/model.h"

namespace sonde {

class StageLink {
 public:
  StageLink(const Model& model, Backend& backend);

  // x [T, D], contiguous. send returns at once: this stage goes on with the next batch while the next one
  // works, and waits when it is two batches ahead.
  void receive(Tensor x);  // from the stage before
  void send(Tensor x);     // to the next one

 private:
  const Stage stage_;
  Communicator* ranks_;
  const StageDevices& devices_;
  Backend& backend_;
  Buffer host_, device_;
};

// What the last stage has found, on all stages. It does not wait for the others: each takes it when it has
// run as many further batches as there are stages behind it. At most Communicator::kInFlight times in a row.
template <class T>
void share_found(const Model& model, std::span<T> found) {
  if (model.stages == nullptr || found.empty()) return;
  const int last = model.stage.count - 1;
  if (!model.stage.last()) return model.stages->receive(found, last);
  for (int stage = 0; stage < last; ++stage) model.stages->send(std::span<const T>(found), stage);
}

}  // namespace sonde
