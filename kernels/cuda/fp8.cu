// Products of e4m3 (arXiv:2209.05433): y[t][n] = s_t s_n sum_k x8[t][k] w8[n][k] + bias[n], where a row r8 of
// either operand is r / s rounded to nearest even and s = max|r| / 448, of no other row; sums in float. A row
// with a value that is not finite has a scale of NaN, and so have the results, since e4m3 has no infinity and
// would hide it behind 448.
//
// Ladder: rounding, 4 values read and 1 written a lane -> 16 bytes and 4; the row is read a second time from
// L1. Products: cuBLASLt on the tensor cores writes plain sums, scaled behind it (its own scales by row are
// for sm_90 and later alone), a thread per 4 columns and 8 rows, so that the columns' scales and biases are
// read once for them; where the result doesn't lie as the library wants it, by way of scratch -> few rows
// (decode): a warp per column of both operands' bytes, 16 a lane. Bytes at least: rounding 5 a value, scaling
// 8; decode: the weight, once, half of bf16's. FLOPs: 2 T N K.
#include "kernels/cuda/fp8.h"

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/gemv.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr float kLargest = 448, kLeastScale = 0x1p-126f;
constexpr int kScaledRows = 8;  // of a thread

// Values c to c + 3 of a row; zeros past its end.
template <bool kFour>
GPU_DEV float4 four_of(const float* row, std::int64_t c, std::int64_t n) {
  if constexpr (kFour) return c < n ? load4(row + c) : float4{0, 0, 0, 0};
  const auto at = [&](std::int64_t i) { return i < n ? row[i] : 0.0f; };
  return {at(c), at(c + 1), at(c + 2), at(c + 3)};
}

GPU_DEV unsigned magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }  // NaN is the largest

// A block per row.
template <bool kFour>
__global__ void round_rows(Byte* codes, float* scales, Rows x, std::int64_t n, std::int64_t pitch) {
  GPU_SHARED(unsigned[32], shared);
  const std::int64_t r = blockIdx.x;
  const float* row = x.row(r);
  unsigned largest = 0;
  for (std::int64_t c = std::int64_t{threadIdx.x} * 4; c < n; c += blockDim.x * 4) {
    const float4 v = four_of<kFour>(row, c, n);
    largest = MaxOf{}(MaxOf{}(MaxOf{}(largest, magnitude(v.x)), magnitude(v.y)),
                      MaxOf{}(magnitude(v.z), magnitude(v.w)));
  }
  largest = block_reduce(largest, shared, MaxOf{});
  // At least the least normal number, whose inverse is one, too; a row of zeros has it.
  const float scale =
      largest < 0x7f800000u ? fmaxf(__fdiv_rn(__uint_as_float(largest), kLargest), kLeastScale) : NAN;
  const float inverse = __fdiv_rn(1.0f, scale);
  for (std::int64_t c = std::int64_t{threadIdx.x} * 4; c < pitch; c += blockDim.x * 4) {
    const float4 v = four_of<kFour>(row, c, n);
    *reinterpret_cast<std::uint32_t*>(codes + r * pitch + c) =
        to_e4m3x2(v.x * inverse, v.y * inverse) | std::uint32_t{to_e4m3x2(v.z * inverse, v.w * inverse)}
                                                      << 16;
  }
  if (threadIdx.x == 0) scales[r] = scale;
}

// y = sums times both scales, the row's last: it may be of any size, and what comes before must not leave
// float's range.
template <bool kFour>
__global__ void scale_sums(Rows y, Rows sums, const float* row_scales, const float* column_scales,
                           const float* bias, std::int64_t rows, std::int64_t n) {
  const std::int64_t c = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * (kFour ? 4 : 1);
  if (c >= n) return;
  const float4 s = load<kFour>(column_scales + c);
  const float4 b = bias != nullptr ? load<kFour>(bias + c) : float4{0, 0, 0, 0};
  const std::int64_t first = std::int64_t{blockIdx.x} * kScaledRows;
  const std::int64_t end = first + kScaledRows < rows ? first + kScaledRows : rows;
  for (std::int64_t r = first; r < end; ++r) {
    const float4 v = load<kFour>(sums.row(r) + c);
    const float t = row_scales[r];
    store<kFour>(y.row(r) + c, {fmaf(v.x * s.x, t, b.x), fmaf(v.y * s.y, t, b.y), fmaf(v.z * s.z, t, b.z),
                                fmaf(v.w * s.w, t, b.w)});
  }
}

GPU_DEV void sixteen(float (&values)[16], const Byte* codes) {
  const uint4 all = ldg128(codes);
  const std::uint32_t words[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float2 two = from_e4m3x2(static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16)));
    values[2 * i] = two.x, values[2 * i + 1] = two.y;
  }
}

// A warp per column, kRows rows of x at once.
template <int kRows>
__global__ void gemv_fp8(Rows y, const Byte* x, const float* row_scales, const Byte* w,
                         const float* column_scales, const float* bias, int rows, std::int64_t n,
                         std::int64_t pitch) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t column = std::int64_t{blockIdx.x} * kGemvWarps + threadIdx.x / 32;
  if (column >= n) return;  // the whole warp
  float sum[kRows] = {};
  for (std::int64_t at = lane * 16; at < pitch; at += 512) {
    float weights[16], values[16];
    sixteen(weights, w + column * pitch + at);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
      sixteen(values, x + r * pitch + at);
#pragma unroll
      for (int i = 0; i < 16; ++i) sum[r] = fmaf(weights[i], values[i], sum[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float all = warp_reduce(sum[r], SumOf{});
    if (lane == 0 && r < rows)
      y.row(r)[column] =
          fmaf(all * column_scales[column], row_scales[r], bias != nullptr ? bias[column] : 0.0f);
  }
}

}  // namespace

void round_to_fp8(Stream& stream, const Fp8Rows& to, std::int64_t first, Tensor x) {
  const Rows from = rows_of(x);
  launch("round_to_fp8", by_float4(from) && to.k % 4 == 0 ? round_rows<true> : round_rows<false>,
         dim3(static_cast<unsigned>(x.rows())), dim3(threads_for(to.pitch() / 4)), 0, stream, to.codes(first),
         to.scales(first), from, to.k, to.pitch());
}

void GpuBackend::linear_fp8(Tensor y, Tensor x, const std::byte* weight, Tensor bias) {
  const std::int64_t rows = x.rows(), n = y.width();
  Fp8Rows narrow{rows, x.width()};
  const Fp8Rows w{up_to_16(n), x.width(), const_cast<std::byte*>(weight)};
  if (operands_.bytes() < narrow.bytes()) operands_ = allocate(narrow.bytes());
  narrow.memory = operands_.data();
  round_to_fp8(stream_, narrow, 0, x);
  const float* b = bias.empty() ? nullptr : device_f32(bias);
  const Rows to = rows_of(y);
  if (rows <= kFewRows)
    return launch("linear", rows == 1 ? gemv_fp8<1> : gemv_fp8<kFewRows>,
                  dim3(static_cast<unsigned>((n + kGemvWarps - 1) / kGemvWarps)), dim3(32 * kGemvWarps), 0,
                  stream_, to, narrow.codes(), narrow.scales(), w.codes(), w.scales(), b,
                  static_cast<int>(rows), n, w.pitch());

  Blas::Operands o{to.data, to.stride, narrow.codes(), w.pitch(),  w.codes(), nullptr,
                   rows,    n,         w.pitch(),      DType::e4m3};
  Rows sums = to;
  if (!Blas::takes(o)) {
    if (scratch_.bytes() < rows * w.n * 4) scratch_ = allocate(rows * w.n * 4);
    sums = {reinterpret_cast<float*>(scratch_.data()), w.n};
    o.y = sums.data, o.y_stride = sums.stride, o.n = w.n;
  }
  blas_->linear(o);
  const bool four = n % 4 == 0 && by_float4(to) && by_float4(sums) && by_float4({const_cast<float*>(b), 0});
  const std::int64_t items = four ? n / 4 : n;
  const unsigned threads = threads_for(items);
  launch("scale_sums", four ? scale_sums<true> : scale_sums<false>,
         dim3(static_cast<unsigned>((rows + kScaledRows - 1) / kScaledRows),
              static_cast<unsigned>((items + threads - 1) / threads)),
         dim3(threads), 0, stream_, to, sums, narrow.scales(), w.scales(), b, rows, n);
}

}  // namespace sonde::SONDE_GPU
