// Captured rows in the form that a store keeps: checked, cast to its dtype, and summed for its statistics.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "runtime/tensor.h"

namespace sonde {

// What a site accepts. Compared as the bits of |x|: everything from `limit` on is refused.
struct ValueRule {
  std::uint32_t limit =
      0x7f800000u;         // the least |x| that the store's dtype can't hold; inf and NaN are above it
  bool minus_inf = false;  // -inf is fine (masked scores)
};
ValueRule value_rule(DType store, bool minus_inf);

struct PackFormat {
  DType dtype = DType::f32;  // f32, bf16 or f16
  ValueRule rule;
  // 0: each column has its sums. Else rows are [heads, keys] of which the store keeps so many values, and all
  // have one pooled column: -inf counts for nothing, values that the rows here lack as 0, or as -inf where
  // the rule allows that.
  std::int64_t pooled = 0;

  std::int64_t columns(std::int64_t width) const { return pooled > 0 ? 1 : width; }
  std::int64_t missing(std::int64_t width) const {
    return pooled > 0 && !rule.minus_inf ? pooled - width : 0;
  }
};

// Where a refused value stands.
struct BadValue {
  std::int64_t row = 0;
  float value = 0;
};

// Of rows so far, f64 [4 C + 1] in one piece: per column the sum, the sum of squares, the largest |x|, and as
// bits the first value of the latest rows that is refused; then how many values a column has.
struct PackedSums {
  static constexpr std::uint64_t kNoneRefused = ~std::uint64_t{0};
  static std::int64_t length(std::int64_t columns) { return 4 * columns + 1; }

  double* data = nullptr;
  std::int64_t columns = 0;

  double* row(int i) const { return data + i * columns; }  // 0 sum, 1 squares, 2 largest, 3 refused
  double& count() const { return data[4 * columns]; }
  std::optional<BadValue> refused() const;
};
// row << 32 | bits of the value, as the bits of a double
double as_refused(std::int64_t row, float value);

// dtype [n, ...] contiguous, of the host, and f64 [4 C + 1] over them and the batch's rows before.
struct PackedRows {
  Tensor rows, sums;  // sums: empty where rows are float32 that nobody packed
};

// Host's tensors: y dtype [n, ...] = the given rows of x f32 [T, ...]; `sums` go on from what they hold. A
// column's rows are added in order, each head's keys in eight lanes by their number, so that bits depend on
// neither threads nor padding.
void pack_rows(const PackFormat& format, Tensor y, const PackedSums& sums, Tensor x,
               std::span<const std::int32_t> rows);

void widen(DType dtype, const void* in, std::int64_t n, float* out);  // dtype -> f32

}  // namespace sonde
