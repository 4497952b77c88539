// Values on their way into a store: checked, summed for the statistics, and cast to the store's dtype.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/dtype.h"

namespace sonde {

// What a site accepts. Compared as the bits of |x|: everything from `limit` on is refused.
struct ValueRule {
  std::uint32_t limit =
      0x7f800000u;         // the least |x| that the store's dtype can't hold; inf and NaN are above it
  bool minus_inf = false;  // -inf is fine (masked scores)
};
ValueRule value_rule(DType store, bool minus_inf);

// Sums over rows, per column: count of values, and [3, width] of sum, sum of squares, max |x|.
struct ColumnSums {
  explicit ColumnSums(std::int64_t columns = 0)
      : width(columns), values(static_cast<std::size_t>(3 * columns), 0.0) {}
  std::int64_t width = 0;
  std::int64_t count = 0;
  std::vector<double> values;  // [3, width]

  double* row(int i) { return values.data() + i * width; }
  void add(const ColumnSums& other);  // sums add, maxima join
};

// Where a refused value stands.
struct BadValue {
  std::int64_t row = 0;
  float value = 0;
};

// Adds rows [n, width] (row_stride floats apart) to `sums`, each column's rows in order, for any number of
// threads. Returns the first refused value, if there is one.
std::optional<BadValue> add_columns(const float* rows, std::int64_t n, std::int64_t row_stride,
                                    const ValueRule& rule, ColumnSums& sums);

// The same for rows of heads x keys [n, H, s] as one pooled column over finite values; the S - s keys that
// are missing count as `padding`, which is 0 or -inf.
struct HeadRows {
  std::int64_t heads = 0, keys = 0, stored_keys = 0;  // H, s, S
  float padding = 0;
};
std::optional<BadValue> add_pooled(const float* rows, std::int64_t n, std::int64_t row_stride,
                                   const HeadRows& shape, const ValueRule& rule, ColumnSums& sums);

void narrow(DType dtype, const float* in, std::int64_t n, void* out);  // f32 -> dtype, to nearest even
void widen(DType dtype, const void* in, std::int64_t n, float* out);   // dtype -> f32

}  // namespace sonde
