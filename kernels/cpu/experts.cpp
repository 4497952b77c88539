// The router of a mixture of experts (arXiv:2401.04088) and the way back from an expert's rows.
#include <algorithm>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace sonde::cpu {

void CpuBackend::do_route(Tensor weights, Tensor indices, Tensor logits, Renormalise renormalise) {
  const std::int64_t experts = logits.dim(1), k = weights.dim(1);
  parallel_rows(logits.rows(), experts * k, [&](std::int64_t t) {
    auto* p = reinterpret_cast<float*>(thread_scratch(experts * 4));
    const float* row = logits.row(t);
    const float sum = kernels_.rows.exp_sum(p, row, kernels_.rows.max(row, experts), experts);
    kernels_.rows.divide(p, p, sum, experts);
    float* w = weights.row(t);
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t best = std::max_element(p, p + experts) - p;  // the first of equals
      w[i] = p[best];
      indices.row(t)[i] = static_cast<float>(best);
      p[best] = -1;
    }
    if (renormalise == Renormalise::yes) kernels_.rows.divide(w, w, kernels_.rows.sum(w, k), k);
  });
}

void CpuBackend::do_add_up_experts(Tensor y, Tensor x, Tensor experts, Tensor weights, std::int64_t first,
                                   std::int64_t n) {
  const std::int64_t k = experts.dim(1);
  parallel_rows(y.rows(), k * y.width(), [&](std::int64_t t) {
    std::fill_n(y.row(t), y.width(), 0.0f);
    for (std::int64_t i = 0; i < k; ++i) {
      const auto e = static_cast<std::int64_t>(experts.row(t)[i]);
      if (e < 0) std::fill_n(y.row(t), y.width(), std::numeric_limits<float>::quiet_NaN());
      if (e >= first && e < first + n)
        kernels_.rows.add_scaled(y.row(t), x.row(t * k + i), weights.row(t)[i], y.width());
    }
  });
}

void CpuBackend::do_scatter_add_rows(Tensor y, std::span<const std::int32_t> rows, Tensor x,
                                     std::span<const float> weights) {
  parallel_rows(x.rows(), x.width(), [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    kernels_.rows.add_scaled(y.row(rows[at]), x.row(i), weights[at], x.width());
  });
}

}  // namespace sonde::cpu
