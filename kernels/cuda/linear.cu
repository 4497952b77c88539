// y = x w' + bias. f32: FMA, no TF32; bf16, f16: both operands rounded to it, products and sums in float.
//
// Ladder: a thread per output -> tiles of 64 x 64 in shared memory, 4 x 4 outputs a thread (for what cuBLASLt
// does not take) -> few rows (decode): a warp per output column that reads the weight once, in whatever
// format it is stored -> blocks by way of shared memory, 16 bytes a lane, and x 16 bytes a lane (before, a
// byte or a float at a time, an eighth of each sector wanted). FLOPs: 2 T N K. Bytes at least: the weight
// once, x and y once; decode is bound by the weight's bytes, which is why blocks of 4 bits are expanded in
// registers there and nowhere else; x comes from L1 for each column.
#include "kernels/cuda/fp8.h"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/weight.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kTile = 64, kDepth = 16,
              kPer = 4;  // outputs of a block, K of a step, outputs a side of a thread

// One output tile; w [N, K] contiguous, T float, bf16 or f16.
template <class T>
__global__ void gemm_tiles(Rows y, Rows x, const T* w, const float* bias, std::int64_t rows, std::int64_t n,
                           std::int64_t k) {
  GPU_SHARED(float[kDepth][kTile + 4], xs);  // + 4: columns of neighbouring rows lie in other banks
  GPU_SHARED(float[kDepth][kTile + 4], ws);
  const std::int64_t row0 = std::int64_t{blockIdx.x} * kTile, column0 = std::int64_t{blockIdx.y} * kTile;
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;
  float sum[kPer][kPer] = {};
  for (std::int64_t k0 = 0; k0 < k; k0 += kDepth) {
    for (int i = thread; i < kTile * kDepth; i += 256) {
      const int r = i / kDepth, c = i % kDepth;
      const bool inside = k0 + c < k;
      xs[c][r] = inside && row0 + r < rows ? rounded<T>(x.row(row0 + r)[k0 + c]) : 0.0f;
      ws[c][r] = inside && column0 + r < n ? to_float(w[(column0 + r) * k + k0 + c]) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float a[kPer], b[kPer];
      for (int i = 0; i < kPer; ++i) a[i] = xs[d][ty * kPer + i], b[i] = ws[d][tx * kPer + i];
      for (int i = 0; i < kPer; ++i)
        for (int j = 0; j < kPer; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    }
    __syncthreads();
  }
  for (int i = 0; i < kPer; ++i)
    for (int j = 0; j < kPer; ++j) {
      const std::int64_t r = row0 + ty * kPer + i, c = column0 + tx * kPer + j;
      if (r < rows && c < n) y.row(r)[c] = sum[i][j] + (bias != nullptr ? bias[c] : 0.0f);
    }
}

// A warp per output column, kRows rows of x at once.
template <class Format, int kRows>
__global__ void gemv_columns(Rows y, Rows x, const Byte* w, const float* bias, std::int64_t rows,
                             std::int64_t n, std::int64_t k, DType dtype, bool x_aligned) {
  GPU_SHARED(uint4[kGemvWarps][kStagedWords<Format>], staged);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t column = std::int64_t{blockIdx.x} * kGemvWarps + warp;
  if (column >= n) return;  // the whole warp
  float sum[kRows] = {};
  add_products<Format, kRows>(
      sum, [&](int r) { return x.row(r); }, static_cast<int>(rows), w, n, column, k, dtype, x_aligned,
      staged[warp]);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float all = warp_reduce(sum[r], SumOf{});
    if (lane == 0 && r < rows) y.row(r)[column] = all + (bias != nullptr ? bias[column] : 0.0f);
  }
}

template <class Format>
void few_rows(Stream& stream, Rows y, Rows x, const void* w, const float* bias, std::int64_t rows,
              std::int64_t n, std::int64_t k, DType dtype) {
  launch("linear", rows == 1 ? gemv_columns<Format, 1> : gemv_columns<Format, kFewRows>,
         dim3(static_cast<unsigned>((n + kGemvWarps - 1) / kGemvWarps)), dim3(32 * kGemvWarps), 0, stream, y,
         x, static_cast<const Byte*>(w), bias, rows, n, k, dtype, by_float4(x));
}

}  // namespace

void GpuBackend::product(float* y, std::int64_t y_stride, Tensor x, const void* w, const float* bias,
                         std::int64_t n, DType dtype) {
  const std::int64_t rows = x.rows(), k = x.width();
  const Rows to{y, y_stride};
  Blas::Operands o{y, y_stride, device_f32(x), x.row_stride, w, bias, rows, n, k, dtype};
  const bool few = rows <= kFewRows && k % 8 == 0;
  if (!few && dtype != DType::f32) {
    if (operands_.bytes() < rows * k * 2) operands_ = allocate(rows * k * 2);
    o.x = operands_.data();
    o.x_stride = k;
  }
  if (!few && Blas::takes(o)) {
    if (dtype != DType::f32) do_cast(operands_.tensor(dtype, {rows, k}), x);
    return blas_->linear(o);
  }
  const dim3 grid(static_cast<unsigned>((rows + kTile - 1) / kTile),
                  static_cast<unsigned>((n + kTile - 1) / kTile));
  with_operand(dtype, [&]<class T>(T) {
    if (few) return few_rows<FourOf<T>>(stream_, to, rows_of(x), w, bias, rows, n, k, dtype);
    launch("linear", gemm_tiles<T>, grid, dim3(256), 0, stream_, to, rows_of(x), static_cast<const T*>(w),
           bias, rows, n, k);
  });
}

std::unique_ptr<Weight> GpuBackend::do_prepare_weight(Tensor w, Precision precision) {
  const DType dtype = dtype_of(precision);
  const std::int64_t n = w.dim(0), k = w.dim(1);
  const bool fp8 = precision == Precision::fp8;
  if (fp8 && compute_ < 89)
    fail_hint("--dtype bf16 runs there",
              "--dtype fp8: {} has compute capability {}.{}, expected at least 8.9", name_, compute_ / 10,
              compute_ % 10);
  Fp8Rows scaled{up_to_16(n), k};
  Buffer memory = allocate(std::max<std::int64_t>(1, fp8 ? scaled.bytes() : bytes_of(dtype, n * k)));
  scaled.memory = memory.data();
  if (dtype == DType::f32) {
    upload_rows(memory.tensor(DType::f32, {n, k}), w);
  } else {  // as float first, some rows at a time
    const std::int64_t at_once =
        std::max<std::int64_t>(1, (std::int64_t{1} << 24) / std::max<std::int64_t>(1, k));
    for (std::int64_t first = 0; first < n; first += at_once) {
      const std::int64_t rows = std::min(at_once, n - first);
      const Tensor some = on_device(w.slice_rows(first, rows), scratch_);
      if (fp8)
        round_to_fp8(stream_, scaled, first, some);
      else
        do_cast(memory.tensor(dtype, {n, k}).slice_rows(first, rows), some);
    }
  }
  return placed({k, precision, {{0, n, dtype, 0}}, std::move(memory)});
}

std::unique_ptr<Weight> GpuBackend::do_keep_weight(std::vector<RawRow> rows, std::int64_t k,
                                                   Precision precision) {
  std::vector<GpuWeight::Segment> segments;
  std::int64_t bytes = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (r == 0 || rows[r].dtype != rows[r - 1].dtype) {
      bytes = (bytes + 255) / 256 * 256;
      segments.push_back({static_cast<std::int64_t>(r), 0, rows[r].dtype, bytes});
    }
    ++segments.back().rows;
    bytes += bytes_of(rows[r].dtype, k);
  }
  Buffer memory = allocate(std::max<std::int64_t>(1, bytes));
  for (const GpuWeight::Segment& s : segments) {
    const std::int64_t row = bytes_of(s.dtype, k);
    for (std::int64_t r = 0; r < s.rows; ++r)
      uploader_.copy(memory.data() + s.offset + r * row, rows[static_cast<std::size_t>(s.first + r)].data,
                     row);
  }
  return placed({k, precision, std::move(segments), std::move(memory)});
}

std::unique_ptr<Weight> GpuBackend::placed(GpuWeight weight) {
  if (weights_here_ + weight.bytes() <= weights_limit_) {
    weights_here_ += weight.bytes();
  } else {
    weight.move_to_host(pinned_, stream_, weight_stream_);
  }
  return std::make_unique<GpuWeight>(std::move(weight));
}

void GpuBackend::do_linear(Tensor y, Tensor x, const Weight& weight, Tensor bias) {
  const auto* w = dynamic_cast<const GpuWeight*>(&weight);
  sonde_check(w != nullptr, "a weight of another backend");
  const std::int64_t rows = x.rows(), k = w->k();
  const DType dtype = dtype_of(w->precision());
  if (rows == 0) return;
  const std::byte* all = w->fetch();
  if (w->precision() == Precision::fp8) return linear_fp8(y, x, all, bias);
  for (std::size_t i = 0; i < w->segments().size(); ++i) {
    const GpuWeight::Segment& s = w->segments()[i];
    const std::byte* data = all + s.offset;
    const float* b = bias.empty() ? nullptr : device_f32(bias) + s.first;
    const Rows to = rows_of(y.slice_columns(s.first, s.rows));
    if (s.dtype == dtype) {
      product(to.data, to.stride, x, data, b, s.rows, dtype);
    } else if (rows <= kFewRows && info(s.dtype).block_values > 1) {
      with_format(s.dtype, [&](auto format) {
        if constexpr (decltype(format)::kValues > 1)
          few_rows<decltype(format)>(stream_, to, rows_of(x), data, b, rows, s.rows, k, dtype);
      });
    } else {
      for_expanded(*w, i, data, [&](std::int64_t first, std::int64_t n, const void* values) {
        product(to.data + first, to.stride, x, values, b == nullptr ? nullptr : b + first, n, dtype);
      });
    }
  }
}

// Rows of blocks become float, or 16 bits, in front of the GEMM, some at a time.
void GpuBackend::for_expanded(const GpuWeight& w, std::size_t segment, const std::byte* data,
                              const std::function<void(std::int64_t, std::int64_t, const void*)>& f) {
  const GpuWeight::Segment& s = w.segments()[segment];
  const std::int64_t k = w.k(), row = bytes_of(s.dtype, k);
  const std::int64_t at_once = std::clamp<std::int64_t>((std::int64_t{1} << 24) / k, 1, s.rows);
  const std::int64_t floats = (at_once * k * 4 + 255) / 256 * 256;
  if (scratch_.bytes() < floats + at_once * k * 2) scratch_ = allocate(floats + at_once * k * 2);
  const DType dtype = dtype_of(w.precision());
  for (std::int64_t first = 0; first < s.rows; first += at_once) {
    const std::int64_t n = std::min(at_once, s.rows - first);
    const Tensor values = scratch_.tensor(DType::f32, {n, k});
    Tensor raw(const_cast<std::byte*>(data) + first * row, s.dtype, {n * k});
    raw.device = kDevice;
    do_dequantise(values, raw);
    if (dtype == DType::f32) {
      f(first, n, values.data);
      continue;
    }
    Tensor narrow(values.data + floats, dtype, {n, k});
    narrow.device = kDevice;
    do_cast(narrow, values);
    f(first, n, narrow.data);
  }
}

}  // namespace sonde::SONDE_GPU
