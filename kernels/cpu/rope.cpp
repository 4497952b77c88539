// Rotary positions (arXiv:2104.09864): pairs of the first R values of each head turn by position x frequency.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table,
                         RopePairs pairs) {
  const std::int64_t heads = x.dim(1), width = x.dim(2), half = table.cos.dim(1);
  parallel_rows(x.rows(), x.width(), [&](std::int64_t t) {
    const std::int64_t position = positions[static_cast<std::size_t>(t)];
    const float *cos = table.cos.row(position), *sin = table.sin.row(position);
    for (std::int64_t h = 0; h < heads; ++h) {
      const float* from = x.row(t) + h * width;
      float* to = y.row(t) + h * width;
      if (pairs == RopePairs::halves)
        kernels_.rows.rotate(to, to + half, from, from + half, cos, sin, half);
      else
        kernels_.rows.rotate_neighbours(to, from, cos, sin, half);
      if (to != from)
        std::memcpy(to + 2 * half, from + 2 * half,
                    static_cast<std::size_t>(width - 2 * half) * sizeof(float));
    }
  });
}

}  // namespace sonde::cpu
