// y = x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467), whole and in the steps that hooks see. The whole
// does the same operations on each value in the same order: x / scale, then * weight.
#include <cmath>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

float CpuBackend::rms_of(const float* x, std::int64_t n, float eps) const {
  return std::sqrt(kernels_.rows.sum_squares(x, n) / static_cast<float>(n) + eps);
}

void CpuBackend::do_rms_norm(Tensor y, Tensor x, Tensor weight, float eps) {
  const std::int64_t n = x.width();
  parallel_rows(x.rows(), n, [&](std::int64_t t) {
    kernels_.rows.divide_multiply(y.row(t), x.row(t), rms_of(x.row(t), n, eps), weight.f32(), n);
  });
}

void CpuBackend::do_rms_scale(Tensor scale, Tensor x, float eps) {
  parallel_rows(x.rows(), x.width(),
                [&](std::int64_t t) { *scale.row(t) = rms_of(x.row(t), x.width(), eps); });
}

void CpuBackend::do_divide_rows(Tensor y, Tensor x, Tensor scale) {
  parallel_rows(x.rows(), x.width(),
                [&](std::int64_t t) { kernels_.rows.divide(y.row(t), x.row(t), *scale.row(t), x.width()); });
}

void CpuBackend::do_multiply_columns(Tensor y, Tensor x, Tensor weight) {
  parallel_rows(x.rows(), x.width(),
                [&](std::int64_t t) { kernels_.rows.multiply(y.row(t), x.row(t), weight.f32(), x.width()); });
}

void CpuBackend::do_add_rms_norm(Tensor resid, Tensor y, Tensor delta, Tensor weight, float eps) {
  const std::int64_t n = resid.width();
  parallel_rows(resid.rows(), n, [&](std::int64_t t) {
    float* sum = resid.row(t);
    kernels_.rows.add(sum, sum, delta.row(t), n);
    kernels_.rows.divide_multiply(y.row(t), sum, rms_of(sum, n, eps), weight.f32(), n);
  });
}

void CpuBackend::do_add(Tensor y, Tensor a, Tensor b) {
  parallel_rows(y.rows(), y.width(),
                [&](std::int64_t t) { kernels_.rows.add(y.row(t), a.row(t), b.row(t), y.width()); });
}

}  // namespace sonde::cpu
