// Sums of several ranks' values, in the order of the ranks.
#pragma once

#include <cstdint>

#include "distributed/communicator.h"

namespace sonde {

// out_i = rows_0i op rows_1i op ... ; f32, f64, i32 and i64. `out` may be one of the rows.
void reduce_rows(void* out, const void* rows /*[ranks, n]*/, std::int64_t ranks, std::int64_t n, DType dtype,
                 Reduce op);

}  // namespace sonde
