#include "distributed/reduce.h"

#include <algorithm>

#include "runtime/error.h"

namespace sonde {
namespace {

template <class T, class Join>
void join_rows(T* out, const T* rows, std::int64_t ranks, std::int64_t n, const Join& join) {
  constexpr std::int64_t kPiece = 1024;  // stays in the cache while the ranks are joined
  T sum[kPiece];
  for (std::int64_t first = 0; first < n; first += kPiece) {
    const std::int64_t count = std::min(kPiece, n - first);
    std::copy_n(rows + first, count, sum);
    for (std::int64_t r = 1; r < ranks; ++r)
      for (std::int64_t i = 0; i < count; ++i) sum[i] = join(sum[i], rows[r * n + first + i]);
    std::copy_n(sum, count, out + first);
  }
}

template <class T>
void reduce_typed(void* out, const void* rows, std::int64_t ranks, std::int64_t n, Reduce op) {
  T* to = static_cast<T*>(out);
  const T* from = static_cast<const T*>(rows);
  switch (op) {
    case Reduce::sum:
      return join_rows(to, from, ranks, n, [](T a, T b) { return a + b; });
    case Reduce::min:
      return join_rows(to, from, ranks, n, [](T a, T b) { return std::min(a, b); });
    case Reduce::max:
      return join_rows(to, from, ranks, n, [](T a, T b) { return std::max(a, b); });
  }
}

}  // namespace

void reduce_rows(void* out, const void* rows, std::int64_t ranks, std::int64_t n, DType dtype, Reduce op) {
  switch (dtype) {
    case DType::f32:
      return reduce_typed<float>(out, rows, ranks, n, op);
    case DType::f64:
      return reduce_typed<double>(out, rows, ranks, n, op);
    case DType::i32:
      return reduce_typed<std::int32_t>(out, rows, ranks, n, op);
    case DType::i64:
      return reduce_typed<std::int64_t>(out, rows, ranks, n, op);
    default:
      fail("no sums of {} over ranks", name(dtype));
  }
}

}  // namespace sonde
