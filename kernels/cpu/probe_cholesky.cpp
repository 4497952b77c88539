// Cholesky a = L L' in float64, lower triangle, blocks of 64 columns: factor the diagonal block, solve the
// panel below it in packed form, subtract the panel's product with itself from the rest. Tiles have one
// owner: same bits for any number of threads.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/probe_matrix.h"

namespace sonde {
namespace {

constexpr std::int64_t kBlock = 64;

// Factors the [k, k] block at a (row stride N). A pivot must exceed floor times its entry in the original
// matrix.
bool factor_block(double* a, std::int64_t N, std::int64_t k, const double* floor) {
  for (std::int64_t j = 0; j < k; ++j) {
    double* row = a + j * N;
    double pivot = row[j];
    for (std::int64_t t = 0; t < j; ++t) pivot -= row[t] * row[t];
    if (!(pivot > floor[j])) return false;
    row[j] = std::sqrt(pivot);
    for (std::int64_t i = j + 1; i < k; ++i) {
      double sum = a[i * N + j];
      for (std::int64_t t = 0; t < j; ++t) sum -= a[i * N + t] * row[t];
      a[i * N + j] = sum / row[j];
    }
  }
  return true;
}

}  // namespace

bool probe_cholesky(const ProbeKernels& kernels, std::span<double> a, std::int64_t N, double relative_pivot,
                    PanelBuffer& panels) {
  const std::int64_t MR = kernels.tile_rows, NR = kernels.tile_cols;
  std::vector<double> floor(static_cast<std::size_t>(N));
  for (std::int64_t i = 0; i < N; ++i)
    floor[static_cast<std::size_t>(i)] =
        std::max(0.0, relative_pivot * a[static_cast<std::size_t>(i * N + i)]);
  panels.b.resize(static_cast<std::size_t>((N + NR) * kBlock));
  panels.a.resize(static_cast<std::size_t>((N + MR) * kBlock));

  for (std::int64_t first = 0; first < N; first += kBlock) {
    const std::int64_t k = std::min(kBlock, N - first), below = first + k, m = N - below;
    double* const diagonal = a.data() + first * N + first;
    if (!factor_block(diagonal, N, k, floor.data() + first)) return false;
    if (m == 0) break;
    double* const panel = a.data() + below * N + first;  // [m, k]
    double* const rest = a.data() + below * N + below;   // [m, m]
    const std::int64_t b_panels = (m + NR - 1) / NR, a_panels = (m + MR - 1) / MR;
#pragma omp parallel
    {
#pragma omp for schedule(static)
      for (std::int64_t q = 0; q < b_panels;
           ++q) {  // rows q NR .. of the panel, packed [k, NR], solved, written back
        double* const packed = panels.b.data() + q * k * NR;
        const std::int64_t rows = std::min(NR, m - q * NR);
        for (std::int64_t t = 0; t < k; ++t)
          for (std::int64_t r = 0; r < NR; ++r)
            packed[t * NR + r] = r < rows ? panel[(q * NR + r) * N + t] : 0.0;
        kernels.solve_panel(packed, diagonal, N, k);
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t t = 0; t < k; ++t) panel[(q * NR + r) * N + t] = packed[t * NR + r];
      }
#pragma omp for schedule(static)
      for (std::int64_t p = 0; p < a_panels; ++p)
        for (std::int64_t t = 0; t < k; ++t)
          for (std::int64_t r = 0; r < MR; ++r)
            panels.a[static_cast<std::size_t>((p * k + t) * MR + r)] =
                p * MR + r < m ? -panel[(p * MR + r) * N + t] : 0.0;
#pragma omp for schedule(dynamic)
      for (std::int64_t q = 0; q < b_panels; ++q) {
        double edge[16 * 32];  // a tile that sticks out of the matrix is computed aside
        for (std::int64_t p = q * NR / MR; p < a_panels; ++p) {
          const double *pa = panels.a.data() + p * k * MR, *pb = panels.b.data() + q * k * NR;
          const std::int64_t rows = std::min(MR, m - p * MR), cols = std::min(NR, m - q * NR);
          double* const out = rest + p * MR * N + q * NR;
          // A tile may reach above the diagonal: those entries are the caller's, so the whole tile goes
          // aside.
          if (rows == MR && cols == NR && p * MR >= (q + 1) * NR - 1) {
            kernels.tile(out, N, pa, pb, k);
            continue;
          }
          std::fill(edge, edge + MR * NR, 0.0);
          kernels.tile(edge, NR, pa, pb, k);
          for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < cols && q * NR + j <= p * MR + i; ++j)
              out[i * N + j] += edge[i * NR + j];
        }
      }
    }
  }
  return true;
}

void probe_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) {
  const std::int64_t C = static_cast<std::int64_t>(x.size()) / N;
#pragma omp parallel for schedule(static) if (C > 1)
  for (std::int64_t c = 0; c < C; ++c) {
    double* const y = x.data() + c * N;
    for (std::int64_t i = 0; i < N; ++i) {  // L y = x
      const double* row = l.data() + i * N;
      double sum = y[i];
      for (std::int64_t j = 0; j < i; ++j) sum -= row[j] * y[j];
      y[i] = sum / row[i];
    }
    for (std::int64_t i = N - 1; i >= 0; --i) {  // L' x = y, by rows of L
      const double* row = l.data() + i * N;
      y[i] /= row[i];
      for (std::int64_t j = 0; j < i; ++j) y[j] -= row[j] * y[i];
    }
  }
}

}  // namespace sonde
