// y = (x - mean) / scale * weight + bias with scale = sqrt(mean of (x - mean)^2 + eps): LayerNorm
// (arXiv:1607.06450), and with a mean of 0 RMSNorm (arXiv:1910.07467). Whole and in the steps that hooks see:
// the whole does the same operations on each value in the same order.
#include <cmath>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

float CpuBackend::mean_of(NormKind kind, const float* x, std::int64_t n) const {
  return kind == NormKind::rms ? 0.0f : kernels_.rows.sum(x, n) / static_cast<float>(n);
}

float CpuBackend::scale_of(NormKind kind, const float* x, float mean, std::int64_t n, float eps) const {
  const float squares =
      kind == NormKind::rms ? kernels_.rows.sum_squares(x, n) : kernels_.rows.sum_squares_about(x, mean, n);
  return std::sqrt(squares / static_cast<float>(n) + eps);
}

void CpuBackend::norm_row(NormKind kind, float* y, const float* x, const float* weight, const float* bias,
                          std::int64_t n, float eps) const {
  const float mean = mean_of(kind, x, n);
  kernels_.rows.normalize_affine(y, x, mean, scale_of(kind, x, mean, n, eps), weight, bias, n);
}

void CpuBackend::do_norm(NormKind kind, Tensor y, Tensor x, Tensor weight, Tensor bias, float eps) {
  const std::int64_t n = x.width();
  parallel_rows(x.rows(), n, [&](std::int64_t t) {
    norm_row(kind, y.row(t), x.row(t), weight.f32(), bias.f32(), n, eps);
  });
}

void CpuBackend::do_norm_scale(NormKind kind, Tensor scale, Tensor x, float eps) {
  const std::int64_t n = x.width();
  parallel_rows(x.rows(), n, [&](std::int64_t t) {
    *scale.row(t) = scale_of(kind, x.row(t), mean_of(kind, x.row(t), n), n, eps);
  });
}

void CpuBackend::do_normalize(NormKind kind, Tensor y, Tensor x, Tensor scale) {
  const std::int64_t n = x.width();
  parallel_rows(x.rows(), n, [&](std::int64_t t) {
    kernels_.rows.normalize(y.row(t), x.row(t), mean_of(kind, x.row(t), n), *scale.row(t), n);
  });
}

void CpuBackend::do_scale_columns(Tensor y, Tensor x, Tensor weight, Tensor bias) {
  parallel_rows(x.rows(), x.width(), [&](std::int64_t t) {
    kernels_.rows.affine(y.row(t), x.row(t), weight.f32(), bias.f32(), x.width());
  });
}

void CpuBackend::do_add_norm(NormKind kind, Tensor resid, Tensor y, Tensor delta, Tensor weight, Tensor bias,
                             float eps) {
  const std::int64_t n = resid.width();
  parallel_rows(resid.rows(), n, [&](std::int64_t t) {
    float* sum = resid.row(t);
    kernels_.rows.add(sum, sum, delta.row(t), n);
    norm_row(kind, y.row(t), sum, weight.f32(), bias.f32(), n, eps);
  });
}

void CpuBackend::do_norm_heads(NormKind kind, Tensor y, Tensor x, Tensor weight, float eps) {
  const std::int64_t heads = x.dim(1), n = x.dim(2);
  const bool shared = weight.dim(0) == 1;
  parallel_rows(x.rows(), x.width(), [&](std::int64_t t) {
    for (std::int64_t h = 0; h < heads; ++h)
      norm_row(kind, y.row(t) + h * n, x.row(t) + h * n, weight.row(shared ? 0 : h), nullptr, n, eps);
  });
}

}  // namespace sonde::cpu
