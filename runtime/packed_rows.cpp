#include "runtime/packed_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/cpu.h"
#include "runtime/error.h"

#if defined(__x86_64__)
#define SONDE_AVX2 __attribute__((target("avx2,f16c")))
#define SONDE_HAS_AVX2 1
#endif
#define SONDE_INLINE inline __attribute__((always_inline))

namespace sonde {
namespace {

constexpr std::uint32_t kMinusInf = 0xff800000u;
constexpr std::int64_t kColumnsPerTask = 128;  // accumulators of a task stay in L1

// A parallel region ends in a barrier, and the disk's thread already wants a core: with few cores only large
// work (logits) gains, with many the sums would else hold up the forward.
bool worth_threads(std::int64_t values) { return values >= (thread_count() >= 4 ? 1 << 20 : 1 << 23); }

SONDE_INLINE std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

// The bodies are compiled twice: plain, and with AVX2 for the CPUs that have it. Same operations in the same
// order (no fused multiply-add), so same bits.
SONDE_INLINE void add_columns_body(const float* x, std::int64_t columns, double* sum, double* squares,
                                   std::int32_t* peak) {
  for (std::int64_t c = 0; c < columns; ++c) {
    const double value = x[c];
    sum[c] += value;
    squares[c] += value * value;
    peak[c] = std::max(peak[c], static_cast<std::int32_t>(magnitude(x[c])));
  }
}

constexpr int kLanes = 8;
struct Pooled {
  double sum[kLanes] = {}, squares[kLanes] = {};
  std::int32_t peak[kLanes] = {}, count[kLanes] = {}, bad[kLanes] = {};
};

SONDE_INLINE void add_pooled_one(Pooled& pool, int lane, float x, std::uint32_t limit, bool minus_inf) {
  const bool masked = minus_inf && std::bit_cast<std::uint32_t>(x) == kMinusInf;
  const double value = masked ? 0.0 : static_cast<double>(x);
  const std::uint32_t size = masked ? 0u : magnitude(x);
  pool.sum[lane] += value;
  pool.squares[lane] += value * value;
  pool.peak[lane] = std::max(pool.peak[lane], static_cast<std::int32_t>(size));
  pool.count[lane] += masked ? 0 : 1;
  pool.bad[lane] |= size >= limit ? 1 : 0;
}

// One head: key j goes to lane j % 8, so that padding at the end changes nothing.
SONDE_INLINE void add_pooled_body(const float* x, std::int64_t keys, std::uint32_t limit, bool minus_inf,
                                  Pooled& pool) {
  std::int64_t j = 0;
  for (; j + kLanes <= keys; j += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) add_pooled_one(pool, lane, x[j + lane], limit, minus_inf);
  for (; j < keys; ++j) add_pooled_one(pool, static_cast<int>(j % kLanes), x[j], limit, minus_inf);
}

SONDE_INLINE void narrow_bf16_body(const float* in, std::int64_t n, void* out) {
  for (std::int64_t i = 0; i < n; ++i) static_cast<bf16*>(out)[i] = to_bf16(in[i]);
}
SONDE_INLINE void widen_bf16_body(const bf16* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_float(in[i]);
}

void add_columns_plain(const float* x, std::int64_t columns, double* sum, double* squares,
                       std::int32_t* peak) {
  add_columns_body(x, columns, sum, squares, peak);
}
void add_pooled_plain(const float* x, std::int64_t keys, std::uint32_t limit, bool minus_inf, Pooled& pool) {
  add_pooled_body(x, keys, limit, minus_inf, pool);
}
void narrow_f32(const float* in, std::int64_t n, void* out) {
  std::memcpy(out, in, static_cast<std::size_t>(4 * n));
}
void narrow_bf16_plain(const float* in, std::int64_t n, void* out) { narrow_bf16_body(in, n, out); }
void widen_bf16_plain(const bf16* in, std::int64_t n, float* out) { widen_bf16_body(in, n, out); }
void narrow_f16_plain(const float* in, std::int64_t n, void* out) {
  for (std::int64_t i = 0; i < n; ++i) static_cast<f16*>(out)[i] = to_f16(in[i]);
}
void widen_f16_plain(const f16* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_float(in[i]);
}

struct Bodies {
  decltype(&add_columns_plain) add_columns = add_columns_plain;
  decltype(&add_pooled_plain) add_pooled = add_pooled_plain;
  decltype(&narrow_bf16_plain) narrow_bf16 = narrow_bf16_plain;
  decltype(&widen_bf16_plain) widen_bf16 = widen_bf16_plain;
  decltype(&narrow_f16_plain) narrow_f16 = narrow_f16_plain;
  decltype(&widen_f16_plain) widen_f16 = widen_f16_plain;

  decltype(&narrow_f32) narrow(DType dtype) const {
    return dtype == DType::f32 ? narrow_f32 : dtype == DType::bf16 ? narrow_bf16 : narrow_f16;
  }
};

#ifdef SONDE_HAS_AVX2
SONDE_AVX2 void add_columns_avx2(const float* x, std::int64_t columns, double* sum, double* squares,
                                 std::int32_t* peak) {
  add_columns_body(x, columns, sum, squares, peak);
}
SONDE_AVX2 void add_pooled_avx2(const float* x, std::int64_t keys, std::uint32_t limit, bool minus_inf,
                                Pooled& pool) {
  add_pooled_body(x, keys, limit, minus_inf, pool);
}
SONDE_AVX2 void narrow_bf16_avx2(const float* in, std::int64_t n, void* out) { narrow_bf16_body(in, n, out); }
SONDE_AVX2 void widen_bf16_avx2(const bf16* in, std::int64_t n, float* out) { widen_bf16_body(in, n, out); }

// F16C's own conversions, 8 at a time; the rest (and every NaN, which no store holds) as in dtype.cpp.
using Float8 = float __attribute__((vector_size(32)));
using Half8 = short __attribute__((vector_size(16)));
SONDE_AVX2 void narrow_f16_avx2(const float* in, std::int64_t n, void* out) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Float8 x;
    std::memcpy(&x, in + i, sizeof x);
    const Half8 half = __builtin_ia32_vcvtps2ph256(x, 0);
    std::memcpy(static_cast<f16*>(out) + i, &half, sizeof half);
  }
  narrow_f16_plain(in + i, n - i, static_cast<f16*>(out) + i);
}
SONDE_AVX2 void widen_f16_avx2(const f16* in, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Half8 half;
    std::memcpy(&half, in + i, sizeof half);
    const Float8 x = __builtin_ia32_vcvtph2ps256(half);
    std::memcpy(out + i, &x, sizeof x);
  }
  widen_f16_plain(in + i, n - i, out + i);
}
#endif

const Bodies& bodies() {
  static const Bodies chosen = [] {
    Bodies all;
#ifdef SONDE_HAS_AVX2
    if (best_cpu_path() >= CpuPath::avx2)  // every such CPU has F16C, too
      all = {add_columns_avx2, add_pooled_avx2, narrow_bf16_avx2,
             widen_bf16_avx2,  narrow_f16_avx2, widen_f16_avx2};
#endif
    return all;
  }();
  return chosen;
}

bool refused(float x, const ValueRule& rule) {
  if (rule.minus_inf && std::bit_cast<std::uint32_t>(x) == kMinusInf) return false;
  return magnitude(x) >= rule.limit;
}

// Of the chosen rows the first value that is refused, row by row.
double find_refused(const Tensor& x, std::span<const std::int32_t> rows, const ValueRule& rule) {
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::int64_t c = 0; c < x.width(); ++c)
      if (const float value = x.row(rows[r])[c]; refused(value, rule))
        return as_refused(static_cast<std::int64_t>(r), value);
  fail("a value was refused and then not found");
}

// Column by column in tasks whose rows are read, summed and written in one pass.
bool pack_columns(const PackFormat& format, const Tensor& y, const PackedSums& sums, const Tensor& x,
                  std::span<const std::int32_t> rows) {
  const std::int64_t tasks = (sums.columns + kColumnsPerTask - 1) / kColumnsPerTask;
  const std::int64_t size = info(format.dtype).block_bytes;
  const auto narrow = bodies().narrow(format.dtype);
  bool bad = false;
#pragma omp parallel for schedule(static) reduction(|| : bad) if (worth_threads(y.count()))
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t first = task * kColumnsPerTask,
                       columns = std::min(kColumnsPerTask, sums.columns - first);
    std::int32_t peak[kColumnsPerTask] = {};
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const float* from = x.row(rows[r]) + first;
      bodies().add_columns(from, columns, sums.row(0) + first, sums.row(1) + first, peak);
      narrow(from, columns, y.data + (static_cast<std::int64_t>(r) * sums.columns + first) * size);
    }
    for (std::int64_t c = 0; c < columns; ++c) {
      if (static_cast<std::uint32_t>(peak[c]) >= format.rule.limit) bad = true;
      double& max_abs = sums.row(2)[first + c];
      max_abs = std::max(max_abs, static_cast<double>(std::bit_cast<float>(peak[c])));
    }
  }
  sums.count() += static_cast<double>(rows.size());
  return bad;
}

struct RowSums {
  double sum = 0, squares = 0, largest = 0, count = 0;
};

// Row by row, then the rows' sums in their order.
bool pack_pooled(const PackFormat& format, const Tensor& y, const PackedSums& sums, const Tensor& x,
                 std::span<const std::int32_t> rows) {
  const std::int64_t width = x.width(), keys = x.dim(2), size = info(format.dtype).block_bytes;
  const auto n = static_cast<std::int64_t>(rows.size());
  std::vector<RowSums> per_row(rows.size());
  bool bad = false;
#pragma omp parallel for schedule(static) reduction(|| : bad) if (worth_threads(n * width))
  for (std::int64_t r = 0; r < n; ++r) {
    const float* from = x.row(rows[static_cast<std::size_t>(r)]);
    Pooled pool;
    for (std::int64_t h = 0; h < x.dim(1); ++h)
      bodies().add_pooled(from + h * keys, keys, format.rule.limit, format.rule.minus_inf, pool);
    bodies().narrow(format.dtype)(from, width, y.data + r * width * size);
    RowSums& row = per_row[static_cast<std::size_t>(r)];
    row.count = static_cast<double>(format.missing(width));
    for (int lane = 0; lane < kLanes; ++lane) {
      row.sum += pool.sum[lane];
      row.squares += pool.squares[lane];
      row.largest = std::max(row.largest, static_cast<double>(std::bit_cast<float>(pool.peak[lane])));
      row.count += pool.count[lane];
      if (pool.bad[lane]) bad = true;
    }
  }
  for (const RowSums& row : per_row) {
    sums.row(0)[0] += row.sum;
    sums.row(1)[0] += row.squares;
    sums.row(2)[0] = std::max(sums.row(2)[0], row.largest);
    sums.count() += row.count;
  }
  return bad;
}

}  // namespace

ValueRule value_rule(DType store, bool minus_inf) {
  switch (store) {
    case DType::f32:
      return {0x7f800000u, minus_inf};
    case DType::bf16:
      return {0x7f7f8000u, minus_inf};  // from here on it rounds to inf
    case DType::f16:
      return {0x477ff000u, minus_inf};  // 65520
    default:
      fail("a store of {} does not exist: expected f32, bf16 or f16", name(store));
  }
}

double as_refused(std::int64_t row, float value) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(row) << 32 | std::bit_cast<std::uint32_t>(value));
}

std::optional<BadValue> PackedSums::refused() const {
  std::uint64_t first = kNoneRefused;
  for (std::int64_t c = 0; c < columns; ++c)
    if (const auto bits = std::bit_cast<std::uint64_t>(row(3)[c]); bits >> 32 < first >> 32) first = bits;
  if (first == kNoneRefused) return std::nullopt;
  return BadValue{static_cast<std::int64_t>(first >> 32),
                  std::bit_cast<float>(static_cast<std::uint32_t>(first))};
}

void pack_rows(const PackFormat& format, Tensor y, const PackedSums& sums, Tensor x,
               std::span<const std::int32_t> rows) {
  std::fill_n(sums.row(3), sums.columns, std::bit_cast<double>(PackedSums::kNoneRefused));
  const auto pack = format.pooled > 0 ? pack_pooled : pack_columns;
  if (pack(format, y, sums, x, rows)) sums.row(3)[0] = find_refused(x, rows, format.rule);
}

void widen(DType dtype, const void* in, std::int64_t n, float* out) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, in, static_cast<std::size_t>(4 * n));
      break;
    case DType::bf16:
      bodies().widen_bf16(static_cast<const bf16*>(in), n, out);
      break;
    default:
      bodies().widen_f16(static_cast<const f16*>(in), n, out);
      break;
  }
}

}  // namespace sonde
