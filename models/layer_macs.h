// Multiply-adds of one token in the linear layers: what plans count and stages are cut by.
#pragma once

#include <cstdint>
#include <vector>

#include "models/spec.h"

namespace sonde {

// Of a layer. Of experts those that a token goes to, all being equal; routers are counted.
struct LayerMacs {
  std::int64_t attends = 0;  // q, k and v: for every token
  std::int64_t tail = 0;     // what follows: in the last layer that runs, for recorded tokens alone
};
std::vector<LayerMacs> layer_macs(const ModelSpec& spec);  // [L]

inline std::int64_t head_macs(const ModelSpec& spec) { return spec.d_model * spec.vocab; }

}  // namespace sonde
