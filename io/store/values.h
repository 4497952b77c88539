// The sums behind a store's statistics.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/packed_rows.h"

namespace sonde {

// Sums over rows, per column: count of values, and [3, width] of sum, sum of squares, max |x|.
struct ColumnSums {
  explicit ColumnSums(std::int64_t columns = 0)
      : width(columns), values(static_cast<std::size_t>(3 * columns), 0.0) {}
  explicit ColumnSums(const PackedSums& sums);
  std::int64_t width = 0;
  std::int64_t count = 0;
  std::vector<double> values;  // [3, width]

  double* row(int i) { return values.data() + i * width; }
  void add(const ColumnSums& other);  // sums add, maxima join
};

}  // namespace sonde
