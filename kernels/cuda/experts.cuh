// Who was chosen: what the kernels of a mixture's products read of the router.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

struct Choice {
  Rows experts;  // [T, k], whole numbers
  int k, rows;   // T k: row i is token i / k's
  int first, n;  // the experts whose weights are here
  GPU_DEV int of(int row) const { return static_cast<int>(experts.row(row / k)[row % k]); }
};

inline Choice choice_of(const Tensor& experts, std::int64_t first, std::int64_t n) {
  return {rows_of(experts), static_cast<int>(experts.dim(1)), static_cast<int>(experts.count()),
          static_cast<int>(first), static_cast<int>(n)};
}

}  // namespace sonde::SONDE_GPU
