// Sums and maxima over a block, the same for all its threads and in an order that only the block's size
// decides.
#pragma once

#include "kernels/cuda/check.h"

namespace sonde::SONDE_GPU {

struct SumOf {
  template <class T>
  GPU_DEV T operator()(T a, T b) const {
    return a + b;
  }
  template <class T>
  static GPU_DEV T nothing() {
    return 0;
  }
};
struct MaxOf {  // of floats: NaN is left out
  GPU_DEV float operator()(float a, float b) const { return fmaxf(a, b); }
  GPU_DEV unsigned operator()(unsigned a, unsigned b) const { return a > b ? a : b; }
  GPU_DEV unsigned long long operator()(unsigned long long a, unsigned long long b) const {
    return a > b ? a : b;
  }
  template <class T>
  static GPU_DEV T nothing() {
    return std::is_same_v<T, float> ? static_cast<T>(-INFINITY) : T{0};
  }
};

template <class Op, class T>
GPU_DEV T warp_reduce(T value, Op op) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value = op(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  return value;
}

// Over blockDim.x threads, a multiple of 32 and at most 1024; `shared` holds 32 values and may be used again.
template <class Op, class T>
GPU_DEV T block_reduce(T value, T* shared, Op op) {
  value = warp_reduce(value, op);
  const unsigned warps = blockDim.x / 32, lane = threadIdx.x % 32;
  if (warps == 1) return value;
  if (lane == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = warp_reduce(lane < warps ? shared[lane] : Op::template nothing<T>(), op);
  __syncthreads();  // before anyone writes `shared` again
  return value;
}

}  // namespace sonde::SONDE_GPU
