// Rotary positions (arXiv:2104.09864): pairs of the first R values of each head turn by position x frequency.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::turn_head(float* y, const float* x, const float* cos, const float* sin, std::int64_t width,
                           std::int64_t half, RopePairs pairs) const {
  if (pairs == RopePairs::halves)
    kernels_.rows.rotate(y, y + half, x, x + half, cos, sin, half);
  else
    kernels_.rows.rotate_neighbours(y, x, cos, sin, half);
  if (y != x)
    std::memcpy(y + 2 * half, x + 2 * half, static_cast<std::size_t>(width - 2 * half) * sizeof(float));
}

void CpuBackend::do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table,
                         RopePairs pairs) {
  const std::int64_t heads = x.dim(1), width = x.dim(2), half = table.cos.dim(1);
  parallel_rows(x.rows(), x.width(), [&](std::int64_t t) {
    const std::int64_t position = positions[static_cast<std::size_t>(t)];
    const float *cos = table.cos.row(position), *sin = table.sin.row(position);
    for (std::int64_t h = 0; h < heads; ++h)
      turn_head(y.row(t) + h * width, x.row(t) + h * width, cos, sin, width, half, pairs);
  });
}

void CpuBackend::do_qk_norm_rope(NormKind kind, Tensor q, Tensor k, Tensor q_weight, Tensor k_weight,
                                 float eps, std::span<const std::int32_t> positions, const RopeTable& table,
                                 RopePairs pairs) {
  const std::int64_t width = q.dim(2), half = table.cos.dim(1);
  parallel_rows(q.rows(), q.width() + k.width(), [&](std::int64_t t) {
    const std::int64_t position = positions[static_cast<std::size_t>(t)];
    const float *cos = table.cos.row(position), *sin = table.sin.row(position);
    const auto heads = [&](Tensor x, Tensor weight) {
      for (std::int64_t h = 0; h < x.dim(1); ++h) {
        float* head = x.row(t) + h * width;
        if (!weight.empty())
          norm_row(kind, head, head, weight.row(weight.dim(0) == 1 ? 0 : h), nullptr, width, eps);
        turn_head(head, head, cos, sin, width, half, pairs);
      }
    };
    heads(q, q_weight);
    heads(k, k_weight);
  });
}

}  // namespace sonde::cpu
