// Attention of many queries in float: what the launcher of attention.cu asks for.
#pragma once

#include <cstdint>

#include "kernels/cuda/heads.h"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

inline constexpr int kTiledQueries = 64;  // of a block
inline constexpr int kTiledWidest = 256;  // values of a head

// A block's work: queries [row, row + rows) of q and z, of which the first is key `own` of its document,
// whose key 0 is row `key` of k and v.
struct TiledTask {
  std::int32_t row, rows, own, key;
};
struct TiledOperands {
  Rows z, q, k, v, lse;  // lse: [T, H] or null
  int heads, kv_heads, e;
};
void tiled_attention(Stream& stream, const TiledOperands& x, const std::int32_t* tasks /*[n] TiledTask*/,
                     std::int64_t n, const ScoreRule& rule);

}  // namespace sonde::SONDE_GPU
