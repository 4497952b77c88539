// The largest values of a row in order, and the penalty on tokens that are there already.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_top_k(std::span<Candidate> out, Tensor x, std::int64_t k) {
  const std::int64_t n = x.width();
  parallel_rows(x.rows(), n, [&](std::int64_t t) {
    const float* row = x.row(t);
    const auto before = [row](std::int32_t a, std::int32_t b) {
      const float p = row[a], q = row[b];
      if (std::isnan(p) || std::isnan(q)) return std::isnan(p) && (!std::isnan(q) || a < b);
      return p > q || (p == q && a < b);
    };
    std::vector<std::int32_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    if (k == 1)
      order[0] = *std::min_element(order.begin(), order.end(), before);
    else
      std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int32_t index = order[static_cast<std::size_t>(i)];
      out[static_cast<std::size_t>(t * k + i)] = {row[index], index};
    }
  });
}

void CpuBackend::do_penalise(Tensor x, std::span<const std::int32_t> rows,
                             std::span<const std::int32_t> columns, double penalty) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float& value = x.row(rows[i])[columns[i]];
    value = static_cast<float>(value > 0 ? value / penalty : value * penalty);
  }
}

}  // namespace sonde::cpu
