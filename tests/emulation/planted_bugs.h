// Kernels that are wrong in one way each, and a right twin where that is instructive. Which mode catches
// which is docs/emulation.md's table; bugs_test.cpp, race/ and asan/ hold it to that.
#pragma once

#include "kernels/cuda/gpu.h"

namespace sonde::emulated::bugs {

// A neighbour's value is read before the barrier that should be there.
template <bool right>
__global__ void missing_barrier(int* out) {
  GPU_SHARED(int[256], s);
  s[threadIdx.x] = static_cast<int>(threadIdx.x);
  if constexpr (right) __syncthreads();
  out[threadIdx.x] = s[(threadIdx.x + 33) % 256];
}

// A shuffle exchanges registers; it does not order memory.
template <bool right>
__global__ void missing_syncwarp(int* out) {
  GPU_SHARED(int[32], s);
  s[threadIdx.x] = static_cast<int>(threadIdx.x);
  const int one = __shfl_xor_sync(~0u, 1, 1);
  if constexpr (right) __syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ 7] + one - 1;
}

GPU_DEV float block_sum(float v, float* sums) {
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
  __syncthreads();
  float all = 0;
  for (int i = 0; i < 8; ++i) all += sums[i];
  return all;
}
// The second sum overwrites what slower warps still read.
template <bool right>
__global__ void reused_buffer(int* out) {
  GPU_SHARED(float[8], sums);
  const float a = block_sum(1, sums);
  if constexpr (right) __syncthreads();
  const float b = block_sum(2, sums);
  out[threadIdx.x] = static_cast<int>(a + b);
}

inline __global__ void half_barrier(int* out) {
  if (threadIdx.x < 40) __syncthreads();
  out[threadIdx.x] = 1;
}
inline __global__ void two_barriers(int* out) {
  if (threadIdx.x < 64)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}
inline __global__ void lane_left(int* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
}
inline __global__ void lanes_split(int* out) {
  if (threadIdx.x & 1) {
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
  } else {
    out[threadIdx.x] = static_cast<int>(__ballot_sync(~0u, 1));
  }
}
inline __global__ void wrong_mask(int* out) { out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 1); }
inline __global__ void shuffle_from_outside(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

// Two stages of cp.async; the wait lets one group too many be in flight, or the barrier is missing, or
// nothing waits at all.
enum class Async { right, late_wait, no_barrier, no_wait };
template <Async kind>
__global__ void pipeline(int* out, const int* in) {
  GPU_SHARED(int[2][128], stage);
  const int i = static_cast<int>(threadIdx.x);
  if (i < 32) cp_async16(&stage[0][4 * i], in + 4 * i);
  cp_async_commit();
  if (i < 32) cp_async16(&stage[1][4 * i], in + 128 + 4 * i);
  cp_async_commit();
  if constexpr (kind != Async::no_wait) cp_async_wait<kind == Async::late_wait ? 2 : 1>();
  if constexpr (kind != Async::no_barrier) __syncthreads();
  out[i] = stage[0][127 - i];
  if constexpr (kind != Async::no_wait) cp_async_wait_all();
}

inline __global__ void uninitialised_shared(float* out) {
  GPU_SHARED(float[256], s);
  if (threadIdx.x < 255) s[threadIdx.x] = 0;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
inline __global__ void uninitialised_sum(float* out, const float* in, int n) {
  float sum;  // = 0
  for (int i = 0; i < n; ++i) sum += in[i];
  out[0] = sum;
}
#pragma GCC diagnostic pop
inline __global__ void misaligned_load(float* out, const float* in) {
  const uint4 v = ldg128(in + 1 + 4 * threadIdx.x);
  out[threadIdx.x] = __uint_as_float(v.x);
}
inline __global__ void dynamic_overrun(int* out) {
  GPU_DYN_SMEM(bytes);
  int* s = reinterpret_cast<int*>(bytes);
  s[threadIdx.x + 1] = 1;  // the launch has room for one a thread
  out[threadIdx.x] = s[threadIdx.x + 1];
}
inline __global__ void static_overrun(int* out, int off) {
  GPU_SHARED(int[256], a);
  GPU_SHARED(int[256], b);
  a[threadIdx.x] = b[threadIdx.x] = 1;
  out[threadIdx.x] = (&a[0])[threadIdx.x + off];
}
inline __global__ void global_overread(int* out, const int* in) { out[threadIdx.x] = in[threadIdx.x + 1]; }
inline __global__ void global_overwrite(int* out) { out[threadIdx.x + 1] = 1; }

// Blocks that write one word; block sums whose last block adds them up, with and without the fence.
inline __global__ void blocks_collide(int* out) { out[blockIdx.x / 2] = static_cast<int>(blockIdx.x); }
template <bool fence>
__global__ void last_block_sums(int* out, int* partial, unsigned* count) {
  GPU_SHARED(bool, last);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
    if constexpr (fence) __threadfence();
    last = atomicAdd(count, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
    *out = sum;
  }
}

}  // namespace sonde::emulated::bugs
