// The loops of ProbeKernels over a vector of kLanes doubles. Included once per instruction set, after the
// macros SONDE_PROBE_ISA (name), SONDE_PROBE_LANES, SONDE_PROBE_MR and SONDE_PROBE_NV (tile: MR rows, NV
// vectors) are set. Everything lives in an unnamed namespace: no symbol compiled for one instruction set can
// serve another.
#include <cstring>

#include "kernels/cpu/probe_kernels.h"

namespace sonde {
namespace {

constexpr int kLanes = SONDE_PROBE_LANES;
constexpr int kMR = SONDE_PROBE_MR;
constexpr int kNV = SONDE_PROBE_NV;
constexpr int kNR = kNV * kLanes;

typedef double Vec __attribute__((vector_size(kLanes * sizeof(double))));
typedef float HalfVec __attribute__((vector_size(kLanes * sizeof(float))));

inline Vec load(const double* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(double* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline Vec load_wide(const float* p) {
  HalfVec v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Vec);
}
inline Vec splat(double x) {
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = x;
  return v;
}

void dots(double* out, const float* const* rows, const double* shift, const double* w, std::int64_t D) {
  Vec sum[kProbeRows] = {};
  std::int64_t j = 0;
  for (; j + kLanes <= D; j += kLanes) {
    const Vec s = load(shift + j), wj = load(w + j);
    for (int r = 0; r < kProbeRows; ++r) sum[r] += (load_wide(rows[r] + j) - s) * wj;
  }
  for (int r = 0; r < kProbeRows; ++r) {
    double total = 0;
    for (int i = 0; i < kLanes; ++i) total += sum[r][i];
    for (std::int64_t t = j; t < D; ++t) total += (static_cast<double>(rows[r][t]) - shift[t]) * w[t];
    out[r] = total;
  }
}

void accumulate(double* g, const float* const* rows, const double* shift, const double* coefficient,
                std::int64_t D) {
  std::int64_t j = 0;
  for (; j + kLanes <= D; j += kLanes) {
    const Vec s = load(shift + j);
    Vec sum = load(g + j);
    for (int r = 0; r < kProbeRows; ++r) sum += (load_wide(rows[r] + j) - s) * splat(coefficient[r]);
    store(g + j, sum);
  }
  for (; j < D; ++j)
    for (int r = 0; r < kProbeRows; ++r)
      g[j] += (static_cast<double>(rows[r][j]) - shift[j]) * coefficient[r];
}

void accumulate_squares(double* g, const float* const* rows, int n, const double* shift, std::int64_t D) {
  std::int64_t j = 0;
  for (; j + kLanes <= D; j += kLanes) {
    const Vec s = load(shift + j);
    Vec sum = load(g + j);
    for (int r = 0; r < n; ++r) {
      const Vec d = load_wide(rows[r] + j) - s;
      sum += d * d;
    }
    store(g + j, sum);
  }
  for (; j < D; ++j)
    for (int r = 0; r < n; ++r) {
      const double d = static_cast<double>(rows[r][j]) - shift[j];
      g[j] += d * d;
    }
}

template <int kWidth>
void pack(double* out, const float* row, const double* shift, double weight, std::int64_t width) {
  if (width == kWidth) {
    for (int j = 0; j < kWidth; ++j) out[j] = (static_cast<double>(row[j]) - shift[j]) * weight;
    return;
  }
  for (int j = 0; j < kWidth; ++j)
    out[j] = j < width ? (static_cast<double>(row[j]) - shift[j]) * weight : 0.0;
}

void tile(double* c, std::int64_t stride, const double* a, const double* b, std::int64_t k) {
  Vec sum[kMR][kNV] = {};
  for (std::int64_t p = 0; p < k; ++p, a += kMR, b += kNR) {
    Vec bp[kNV];
    for (int v = 0; v < kNV; ++v) bp[v] = load(b + v * kLanes);
    for (int i = 0; i < kMR; ++i) {
      const Vec ap = splat(a[i]);
      for (int v = 0; v < kNV; ++v) sum[i][v] += ap * bp[v];
    }
  }
  for (int i = 0; i < kMR; ++i)
    for (int v = 0; v < kNV; ++v) {
      double* out = c + i * stride + v * kLanes;
      store(out, load(out) + sum[i][v]);
    }
}

void solve_panel(double* panel, const double* l, std::int64_t stride, std::int64_t k) {
  for (std::int64_t j = 0; j < k; ++j) {
    Vec x[kNV];
    for (int v = 0; v < kNV; ++v) x[v] = load(panel + j * kNR + v * kLanes);
    for (std::int64_t t = 0; t < j; ++t) {
      const Vec factor = splat(l[j * stride + t]);
      for (int v = 0; v < kNV; ++v) x[v] -= factor * load(panel + t * kNR + v * kLanes);
    }
    const Vec pivot = splat(l[j * stride + j]);
    for (int v = 0; v < kNV; ++v) store(panel + j * kNR + v * kLanes, x[v] / pivot);
  }
}

constexpr ProbeKernels kTable{kMR,       kNR,       dots, accumulate, accumulate_squares,
                              pack<kMR>, pack<kNR>, tile, solve_panel};

}  // namespace

#define SONDE_PROBE_JOIN(a, b) a##b
#define SONDE_PROBE_TABLE(isa) SONDE_PROBE_JOIN(probe_kernels_, isa)
const ProbeKernels& SONDE_PROBE_TABLE(SONDE_PROBE_ISA)() { return kTable; }

}  // namespace sonde
