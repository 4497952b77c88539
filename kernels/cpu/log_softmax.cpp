// log p(target) = logit - log sum exp: a naive float sum over a vocabulary is off by 2e-5, so it is a
// double's.
#include <cmath>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_log_softmax_at(std::span<double> out, Tensor logits,
                                   std::span<const std::int32_t> targets, float temperature) {
  const std::int64_t n = logits.width();
  const float factor = 1 / temperature;
  parallel_rows(logits.rows(), n, [&](std::int64_t t) {
    const auto at = static_cast<std::size_t>(t);
    const float* row = logits.row(t);
    const float largest = kernels_.rows.max(row, n);
    out[at] = (static_cast<double>(row[targets[at]]) - static_cast<double>(largest)) * factor -
              std::log(kernels_.rows.exp_sum_double(row, largest, factor, n));
  });
}

}  // namespace sonde::cpu
