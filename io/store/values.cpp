#include "io/store/values.h"

#include <algorithm>

#include "runtime/error.h"

namespace sonde {

ColumnSums::ColumnSums(const PackedSums& sums)
    : width(sums.columns),
      count(static_cast<std::int64_t>(sums.count())),
      values(sums.data, sums.data + 3 * sums.columns) {}

void ColumnSums::add(const ColumnSums& other) {
  sonde_check(other.width == width, "{} columns, expected {}", other.width, width);
  count += other.count;
  for (std::int64_t i = 0; i < 2 * width; ++i) {
    const auto at = static_cast<std::size_t>(i);
    values[at] += other.values[at];
  }
  for (std::int64_t i = 2 * width; i < 3 * width; ++i) {
    const auto at = static_cast<std::size_t>(i);
    values[at] = std::max(values[at], other.values[at]);
  }
}

}  // namespace sonde
