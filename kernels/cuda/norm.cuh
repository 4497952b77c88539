// The arithmetic of norms on a row: moments, then (x - mean) / scale * weight + bias, each operation rounded
// by itself, so that whole norms, their steps and fusions of them give the same bits.
#pragma once

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

// f(column) for one thread's columns of a row that so many share: groups of four of them side by side.
template <bool kFour, class F>
GPU_DEV void each_column(std::int64_t n, unsigned thread, unsigned threads, F f) {
  for (std::int64_t c = std::int64_t{thread} * (kFour ? 4 : 1); c < n; c += threads * (kFour ? 4 : 1)) f(c);
}
template <bool kFour, class F>
GPU_DEV void each_column(std::int64_t n, F f) {
  each_column<kFour>(n, threadIdx.x, blockDim.x, f);
}

struct Moments {
  float mean, scale;
};

// Of a row that `threads` threads share; sum: of a float of each of them, for all of them.
template <bool kFour, class Sum>
GPU_DEV Moments moments_of(const float* x, std::int64_t n, bool layer, float eps, unsigned thread,
                           unsigned threads, Sum sum) {
  float mean = 0;
  if (layer) {
    each_column<kFour>(n, thread, threads, [&](std::int64_t c) {
      const float4 v = load<kFour>(x + c);
      mean += kFour ? (v.x + v.y) + (v.z + v.w) : v.x;
    });
    mean = sum(mean) / static_cast<float>(n);
  }
  float squares = 0;
  const auto add = [&](float v) {
    const float d = v - mean;
    squares = fmaf(d, d, squares);
  };
  each_column<kFour>(n, thread, threads, [&](std::int64_t c) {
    const float4 v = load<kFour>(x + c);
    add(v.x);
    if constexpr (kFour) add(v.y), add(v.z), add(v.w);
  });
  squares = sum(squares);
  return {mean, __fsqrt_rn(__fadd_rn(__fdiv_rn(squares, static_cast<float>(n)), eps))};
}

// Of a row, known to all threads of its block.
template <bool kFour>
GPU_DEV Moments moments_of(const float* x, std::int64_t n, bool layer, float eps, float* shared) {
  return moments_of<kFour>(x, n, layer, eps, threadIdx.x, blockDim.x,
                           [&](float v) { return block_reduce(v, shared, SumOf{}); });
}

GPU_DEV float normalized(float x, Moments m) { return __fdiv_rn(__fsub_rn(x, m.mean), m.scale); }
GPU_DEV float affine(float x, float weight, float bias) { return __fadd_rn(__fmul_rn(x, weight), bias); }

template <bool kFour>
GPU_DEV float4 affine_of(float4 v, const float* weight, const float* bias) {
  const float4 w = load<kFour>(weight);
  const float4 b = bias != nullptr ? load<kFour>(bias) : float4{0, 0, 0, 0};
  if constexpr (!kFour) return {affine(v.x, w.x, b.x), 0, 0, 0};
  return {affine(v.x, w.x, b.x), affine(v.y, w.y, b.y), affine(v.z, w.z, b.z), affine(v.w, w.w, b.w)};
}
template <bool kFour>
GPU_DEV float4 normalized_of(float4 v, Moments m) {
  if constexpr (!kFour) return {normalized(v.x, m), 0, 0, 0};
  return {normalized(v.x, m), normalized(v.y, m), normalized(v.z, m), normalized(v.w, m)};
}

// Whether rows of n can be read by float4.
inline bool four(std::int64_t n, std::initializer_list<Rows> all) {
  bool good = n % 4 == 0;
  for (const Rows& rows : all) good = good && by_float4(rows);
  return good;
}
inline bool four(std::int64_t n, const float* weight, const float* bias) {
  return n % 4 == 0 && by_float4({const_cast<float*>(weight), 0}) && by_float4({const_cast<float*>(bias), 0});
}

}  // namespace sonde::SONDE_GPU
