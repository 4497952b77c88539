// The ranks of a pipeline, as the forward and its callers see them: the residual stream goes from stage to
// stage, what the last one finds comes back to all. Alone, nothing happens.
#pragma once

#include <span>

#include "models/model.h"

namespace sonde {

class StageLink {
 public:
  StageLink(const Model& model, Backend& backend);

  // x [T, D], contiguous. send returns at once: this stage goes on with the next batch while the next one
  // works.
  void receive(Tensor x);  // from the stage before
  void send(Tensor x);     // to the next one

 private:
  const Stage stage_;
  Communicator* ranks_;
  Backend& backend_;
  Buffer host_, device_;
};

}  // namespace sonde
