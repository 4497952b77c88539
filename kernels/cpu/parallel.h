// Loops over rows that are worth more than one thread only when there is enough to do.
#pragma once

#include <cstdint>

namespace sonde::cpu {

// f(row) for every row in [0, rows); `work` is the number of values of a row. Rows never share results, so
// the split over threads cannot show.
template <class F>
void parallel_rows(std::int64_t rows, std::int64_t work, const F& f) {
#pragma omp parallel for schedule(static) if (rows > 1 && rows * work > 16384)
  for (std::int64_t i = 0; i < rows; ++i) f(i);
}

}  // namespace sonde::cpu
