// A block's 64 x 64 tile of a product in float64: 256 threads, each with 4 x 4 entries 16 apart, from
// operands that lie step by step in shared memory.
#pragma once

#include "kernels/cuda/gpu.h"

namespace sonde::SONDE_GPU {

inline constexpr int kTileSide = 64, kTileDepth = 16,
                     kTilePer = 4;  // entries, steps held, entries a side of a thread

// sum[p][q] += a[d][ty + 16 p] b[d][tx + 16 q] over the steps d. kPitch: doubles from one step to the next.
template <int kPitch>
GPU_DEV void add_tile_product(double (&sum)[kTilePer][kTilePer], const double (&as)[kTileDepth][kPitch],
                              const double (&bs)[kTileDepth][kPitch], int ty, int tx) {
#pragma unroll
  for (int d = 0; d < kTileDepth; ++d) {
    double a[kTilePer], b[kTilePer];
    for (int k = 0; k < kTilePer; ++k) a[k] = as[d][ty + 16 * k], b[k] = bs[d][tx + 16 * k];
    for (int p = 0; p < kTilePer; ++p)
      for (int q = 0; q < kTilePer; ++q) sum[p][q] += a[p] * b[q];
  }
}

}  // namespace sonde::SONDE_GPU
