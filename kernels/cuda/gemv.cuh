// A warp's products of one column of a weight with few rows: the weight is read once for all of them, in
// whatever format it is stored, blocks by way of shared memory.
#pragma once

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

constexpr int kGemvWarps = 4, kFewRows = 4;  // of a block; at once

// A plain weight, four values at a time, as a block format.
template <class T>
struct FourOf {
  static constexpr int kValues = 4, kBytes = 4 * sizeof(T);
  static GPU_DEV void four(float (&y)[4], const Byte* x, int) {
    if constexpr (sizeof(T) == 4) {
      const float4 v = load4(reinterpret_cast<const float*>(x));
      y[0] = v.x, y[1] = v.y, y[2] = v.z, y[3] = v.w;
    } else {
      const uint2 v = ldg64(x);
      const float2 low = unpack2<T>(v.x), high = unpack2<T>(v.y);
      y[0] = low.x, y[1] = low.y, y[2] = high.x, y[3] = high.y;
    }
  }
};

// f(T{}), T what a weight of this type is multiplied as.
template <class F>
void with_operand(DType dtype, F&& f) {
  if (dtype == DType::f32) return f(float{});
  sonde_check(dtype == DType::bf16 || dtype == DType::f16, "an operand of {}", name(dtype));
  return dtype == DType::bf16 ? f(gpu::bf16{}) : f(gpu::f16{});
}

template <class T>
GPU_DEV float rounded(float x) {
  return to_float(from_float<T>(x));
}

// A warp's, where the format is one of blocks.
template <class Format>
inline constexpr int kStagedWords = Format::kValues > 4 ? kSpanWords<Format> : 1;

// A lane's share of sum[r] += w[column] . row_of(r), w [n, k]. dtype: what x and the expanded weight are
// rounded to.
template <class Format, int kRows, class RowOf>
GPU_DEV void add_products(float (&sum)[kRows], const RowOf& row_of, int rows, const Byte* w, std::int64_t n,
                          std::int64_t column, std::int64_t k, DType dtype, bool x_aligned, uint4* staged) {
  constexpr bool kBlocks = Format::kValues > 4;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t row_bytes = k / Format::kValues * Format::kBytes;
  const auto round = [&](float v) {
    return dtype == DType::f32 ? v : dtype == DType::bf16 ? rounded<gpu::bf16>(v) : rounded<gpu::f16>(v);
  };
  for (std::int64_t k0 = 0; k0 < k; k0 += kSpan) {
    const int span = k - k0 < kSpan ? static_cast<int>(k - k0) : kSpan;
    const Byte* weights = w + column * row_bytes + k0 / Format::kValues * Format::kBytes;
    if constexpr (kBlocks)
      weights = stage(staged, weights, span / Format::kValues * Format::kBytes, w + n * row_bytes);
#pragma unroll 4
    for (int at = lane * 4; at < span; at += 128) {
      float values[4];
      Format::four(values, weights + at / Format::kValues * Format::kBytes, at % Format::kValues);
      for (int j = 0; j < 4; ++j) values[j] = round(values[j]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) break;
        const float* from = row_of(r) + k0 + at;
        const float4 v = x_aligned ? load4(from) : float4{from[0], from[1], from[2], from[3]};
        sum[r] = fmaf(values[0], round(v.x), sum[r]);
        sum[r] = fmaf(values[1], round(v.y), sum[r]);
        sum[r] = fmaf(values[2], round(v.z), sum[r]);
        sum[r] = fmaf(values[3], round(v.w), sum[r]);
      }
    }
    if constexpr (kBlocks) __syncwarp();  // before the next span
  }
}

}  // namespace sonde::SONDE_GPU
