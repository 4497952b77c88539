// y = (x - mean) / scale * weight + bias with scale = sqrt(mean of (x - mean)^2 + eps): LayerNorm
// (arXiv:1607.06450), and with a mean of 0 RMSNorm (arXiv:1910.07467). Whole and in the steps that hooks see:
// the same operations on each value in the same order, each rounded by itself, so that both give the same
// bits.
//
// Ladder: a thread per row -> a block per row, sums over shuffles -> float4 -> resid += delta, the sum of
// squares and the norm in one kernel (add_norm). The second and third read of a row (16 KB at D = 4096) come
// from L1. Bytes: norm reads and writes 4 D a row, add_norm reads 8 D and writes 8 D; FLOPs 4 D to 7 D:
// memory-bound.
#include "kernels/cuda/norm.cuh"

namespace sonde::SONDE_GPU {
namespace {

struct NormTask {
  Rows y, x;
  std::int64_t n, rows;
  const float *weight, *bias;
  float eps;
  bool layer;
};

template <bool kFour, bool kAdd>
__global__ void norm_rows(NormTask t, Rows delta) {
  GPU_SHARED(float[32], shared);
  for (std::int64_t r = blockIdx.x; r < t.rows; r += gridDim.x) {
    float* x = t.x.row(r);
    if constexpr (kAdd) {
      const float* d = delta.row(r);
      each_column<kFour>(t.n, [&](std::int64_t c) {
        const float4 a = load<kFour>(x + c), b = load<kFour>(d + c);
        store<kFour>(x + c, {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w});
      });  // each thread reads below what it wrote itself
    }
    const Moments m = moments_of<kFour>(x, t.n, t.layer, t.eps, shared);
    float* y = t.y.row(r);
    each_column<kFour>(t.n, [&](std::int64_t c) {
      const float4 v = normalized_of<kFour>(load<kFour>(x + c), m);
      store<kFour>(y + c, affine_of<kFour>(v, t.weight + c, t.bias != nullptr ? t.bias + c : nullptr));
    });
  }
}

template <bool kFour>
__global__ void scale_of_rows(Rows scale, Rows x, std::int64_t rows, std::int64_t n, float eps, bool layer) {
  GPU_SHARED(float[32], shared);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const Moments m = moments_of<kFour>(x.row(r), n, layer, eps, shared);
    if (threadIdx.x == 0) *scale.row(r) = m.scale;
  }
}

template <bool kFour>
__global__ void normalize_rows(Rows y, Rows x, Rows scale, std::int64_t rows, std::int64_t n, bool layer) {
  GPU_SHARED(float[32], shared);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* from = x.row(r);
    const Moments m{layer ? moments_of<kFour>(from, n, true, 0, shared).mean : 0.0f, *scale.row(r)};
    each_column<kFour>(n, [&](std::int64_t c) {
      store<kFour>(y.row(r) + c, normalized_of<kFour>(load<kFour>(from + c), m));
    });
  }
}

void launch_norm(const char* name, Stream& stream, const NormTask& t, Rows delta) {
  const bool add = delta.data != nullptr;
  const bool wide = four(t.n, {t.y, t.x, delta}) && four(t.n, t.weight, t.bias);
  const dim3 grid(static_cast<unsigned>(std::min<std::int64_t>(t.rows, 1 << 20)));
  const dim3 block(threads_for(wide ? t.n / 4 : t.n));
  launch(name,
         add ? (wide ? norm_rows<true, true> : norm_rows<false, true>)
             : (wide ? norm_rows<true, false> : norm_rows<false, false>),
         grid, block, 0, stream, t, delta);
}

dim3 block_per_row(std::int64_t rows) {
  return dim3(static_cast<unsigned>(std::min<std::int64_t>(rows, 1 << 20)));
}

}  // namespace

void GpuBackend::do_norm(NormKind kind, Tensor y, Tensor x, Tensor weight, Tensor bias, float eps) {
  launch_norm("norm", stream_,
              {rows_of(y), rows_of(x), x.width(), x.rows(), device_f32(weight), device_f32(bias), eps,
               kind == NormKind::layer},
              {});
}

void GpuBackend::do_add_norm(NormKind kind, Tensor resid, Tensor y, Tensor delta, Tensor weight, Tensor bias,
                             float eps) {
  launch_norm("add_norm", stream_,
              {rows_of(y), rows_of(resid), resid.width(), resid.rows(), device_f32(weight), device_f32(bias),
               eps, kind == NormKind::layer},
              rows_of(delta));
}

void GpuBackend::do_norm_scale(NormKind kind, Tensor scale, Tensor x, float eps) {
  const bool wide = four(x.width(), {rows_of(x)});
  launch("norm_scale", wide ? scale_of_rows<true> : scale_of_rows<false>, block_per_row(x.rows()),
         dim3(threads_for(wide ? x.width() / 4 : x.width())), 0, stream_, rows_of(scale), rows_of(x),
         x.rows(), x.width(), eps, kind == NormKind::layer);
}

void GpuBackend::do_normalize(NormKind kind, Tensor y, Tensor x, Tensor scale) {
  const bool wide = four(x.width(), {rows_of(x), rows_of(y)});
  launch("normalize", wide ? normalize_rows<true> : normalize_rows<false>, block_per_row(x.rows()),
         dim3(threads_for(wide ? x.width() / 4 : x.width())), 0, stream_, rows_of(y), rows_of(x),
         rows_of(scale), x.rows(), x.width(), kind == NormKind::layer);
}

namespace {

struct Multiply {
  GPU_DEV float operator()(std::int64_t, float x, float weight) const { return affine(x, weight, 0); }
};
struct Plus {
  GPU_DEV float operator()(std::int64_t, float x, float bias) const { return x + bias; }
};

}  // namespace

void GpuBackend::do_scale_columns(Tensor y, Tensor x, Tensor weight, Tensor bias) {
  const Rows w{device_f32(weight), 0}, b{device_f32(bias), 0};
  map("scale_columns", stream_, rows_of(y), rows_of(x), w, y.rows(), y.width(), Multiply{});
  if (!bias.empty()) map("scale_columns", stream_, rows_of(y), rows_of(y), b, y.rows(), y.width(), Plus{});
}

}  // namespace sonde::SONDE_GPU
