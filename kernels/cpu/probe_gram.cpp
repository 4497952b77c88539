// X'WX in float64 of float32 rows: 256 rows at a time are centred, weighted and packed, then every tile that
// meets the lower triangle is updated by the register kernel. A tile belongs to one thread and sees the rows
// in order.
#include <algorithm>

#include "kernels/cpu/probe_matrix.h"

namespace sonde {

void probe_gram(const ProbeKernels& kernels, std::span<double> gram, const FeatureRows& x,
                std::span<const double> weights, PanelBuffer& panels) {
  constexpr std::int64_t kRows = 256;
  const std::int64_t MR = kernels.tile_rows, NR = kernels.tile_cols, D = x.D, n = x.n();
  const std::int64_t a_panels = (D + MR - 1) / MR, b_panels = (D + NR - 1) / NR;
  const std::int64_t wide = std::max(a_panels * MR, b_panels * NR);  // side of the padded square
  panels.a.resize(static_cast<std::size_t>(a_panels * MR * kRows));
  panels.b.resize(static_cast<std::size_t>(b_panels * NR * kRows));
  panels.c.assign(static_cast<std::size_t>(wide * wide), 0.0);
  double* const c = panels.c.data();

  for (std::int64_t first = 0; first < n; first += kRows) {
    const std::int64_t k = std::min(kRows, n - first);
#pragma omp parallel
    {
#pragma omp for schedule(static)
      for (std::int64_t p = 0; p < a_panels; ++p)
        for (std::int64_t i = 0; i < k; ++i)
          kernels.pack_a(
              panels.a.data() + (p * kRows + i) * MR, x.row(first + i) + p * MR, x.shift.data() + p * MR,
              weights.empty() ? 1.0 : weights[static_cast<std::size_t>(first + i)], std::min(MR, D - p * MR));
#pragma omp for schedule(static)
      for (std::int64_t p = 0; p < b_panels; ++p)
        for (std::int64_t i = 0; i < k; ++i)
          kernels.pack_b(panels.b.data() + (p * kRows + i) * NR, x.row(first + i) + p * NR,
                         x.shift.data() + p * NR, 1.0, std::min(NR, D - p * NR));
#pragma omp for schedule(dynamic)
      for (std::int64_t q = 0; q < b_panels; ++q)
        for (std::int64_t p = q * NR / MR; p < a_panels;
             ++p)  // tiles with a row at or below their first column
          kernels.tile(c + p * MR * wide + q * NR, wide, panels.a.data() + p * kRows * MR,
                       panels.b.data() + q * kRows * NR, k);
    }
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < D; ++i)
    for (std::int64_t j = 0; j < D; ++j)
      gram[static_cast<std::size_t>(i * D + j)] = i >= j ? c[i * wide + j] : c[j * wide + i];
}

}  // namespace sonde
