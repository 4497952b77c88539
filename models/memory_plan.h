// What a run needs of a device's memory, looked at before the first allocation: what does not fit is refused
// with the sizes, and weights that there is no room for stay on the host.
#pragma once

#include "models/model.h"

namespace sonde {

struct RunNeeds {
  std::int64_t tokens = 0;  // of the largest batch
  std::int64_t fixed = 0;   // bytes beside what the batch's tokens take: keys and values, scores
  bool logits = false;
};

// Bytes; of the host nothing is asked, and all are 0.
struct DeviceMemoryPlan {
  std::int64_t has = 0;
  std::int64_t weights = 0, largest = 0;  // of products, and of one
  std::int64_t tables = 0;                // embedding, positions, norms, biases
  std::int64_t run = 0, token = 0;        // beside the weights, and of a token of the batch
  std::int64_t resident = 0;              // of the weights
  // What to tell the user of it; empty where all weights fit.
  std::string describe() const;
};

// Makes the backend keep weights on the host where they don't fit; an Error where the run doesn't even then.
DeviceMemoryPlan plan_device_memory(Backend& backend, const ModelFiles& files, const ModelSpec& spec,
                                    const LoadOptions& options, const RunNeeds& run);

}  // namespace sonde
