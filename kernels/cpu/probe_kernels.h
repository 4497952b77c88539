// The inner loops of the probe passes, one table per instruction set (probe_avx2.cpp and its twins).
#pragma once

#include <cstdint>

namespace sonde {

inline constexpr int kProbeRows = 8;  // rows that one call of dots or accumulate sees

struct ProbeKernels {
  int tile_rows;  // MR of the packed matrix kernel
  int tile_cols;  // NR

  // out[r] = w . (row_r - shift), 8 rows
  void (*dots)(double* out, const float* const* rows, const double* shift, const double* w, std::int64_t D);
  // g += sum_r coefficient[r] (row_r - shift), 8 rows
  void (*accumulate)(double* g, const float* const* rows, const double* shift, const double* coefficient,
                     std::int64_t D);
  // g += sum_r (row_r - shift)^2, 8 rows, of which the first n count
  void (*accumulate_squares)(double* g, const float* const* rows, int n, const double* shift, std::int64_t D);
  // out[0..width) = (row - shift) * weight, the rest of the panel row is 0; for tile_rows (pack_a) or
  // tile_cols (pack_b)
  void (*pack_a)(double* out, const float* row, const double* shift, double weight, std::int64_t width);
  void (*pack_b)(double* out, const float* row, const double* shift, double weight, std::int64_t width);
  // c[MR, NR] (stride elements between rows) += sum_k a[k, MR]' b[k, NR]
  void (*tile)(double* c, std::int64_t stride, const double* a, const double* b, std::int64_t k);
  // panel[k, NR] <- panel L^-T, column j of the result needs columns < j; l is [k, k] row-major, lower
  void (*solve_panel)(double* panel, const double* l, std::int64_t stride, std::int64_t k);
};

const ProbeKernels& probe_kernels_generic();
const ProbeKernels& probe_kernels_avx2();
const ProbeKernels& probe_kernels_avx512();

}  // namespace sonde
