// What an op may be given: shapes, dtypes, strides and index ranges. Each ends in an Error that names the op
// and the operand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sonde {

inline constexpr std::int64_t kAny = -1;

// One operand: its dims as expected (kAny: free), f32, rows that do not overlap.
inline void expect(const char* op, const char* operand, const Tensor& t,
                   std::initializer_list<std::int64_t> dims) {
  bool good = t.rank == static_cast<int>(dims.size()) && t.dtype == DType::f32;
  int i = 0;
  for (std::int64_t wanted : dims) {
    if (good && wanted != kAny && t.dim(i) != wanted) good = false;
    ++i;
  }
  if (!good) {
    std::string expected;
    for (std::int64_t wanted : dims)
      expected +=
          (expected.empty() ? "" : ", ") + (wanted == kAny ? std::string("*") : std::to_string(wanted));
    fail("{}: {} is {}, expected f32 [{}]", op, operand, t.describe(), expected);
  }
  if (t.rows() > 1 && t.row_stride < t.width())
    fail("{}: {} has rows {} apart, expected at least its width {}", op, operand, t.row_stride, t.width());
  if (t.data == nullptr && t.count() > 0) fail("{}: {} is {} without memory", op, operand, t.describe());
}

// The same rows and row width, whatever the dims of a row.
inline void expect_like(const char* op, const char* operand, const Tensor& t, const Tensor& like) {
  if (t.rank != like.rank || t.shape != like.shape)
    fail("{}: {} is {}, expected the shape of {}", op, operand, t.describe(), like.describe());
  expect(op, operand, t.reshape_row({t.width()}), {like.rows(), like.width()});
}

inline void expect_contiguous(const char* op, const char* operand, const Tensor& t) {
  if (!t.contiguous()) fail("{}: {} has rows {} apart, expected contiguous", op, operand, t.row_stride);
}

inline void expect_count(const char* op, const char* what, std::size_t found, std::int64_t expected) {
  if (static_cast<std::int64_t>(found) != expected) fail("{}: {} {}, expected {}", op, found, what, expected);
}

inline void expect_range(const char* op, const char* what, std::span<const std::int32_t> values,
                         std::int64_t end) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] < 0 || values[i] >= end)
      fail("{}: {} {} is {}, expected 0 to {}", op, what, i, values[i], end - 1);
}

inline void expect_rows(const char* op, const Tensor& x, std::span<const std::int32_t> rows) {
  if (x.rank < 1) fail("{}: x is {}, expected rows", op, x.describe());
  expect_like(op, "x", x, x);
  expect_range(op, "row", rows, x.rows());
}

// An edit touches a row once, whatever the number of threads.
inline void expect_distinct(const char* op, std::span<const std::int32_t> rows) {
  std::vector<std::int32_t> sorted(rows.begin(), rows.end());
  if (!std::is_sorted(sorted.begin(), sorted.end())) std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) fail("{}: row {} is given twice, expected each row once", op, *twice);
}

inline void expect_values(const char* op, const Tensor& values, const Tensor& x, std::size_t rows) {
  if (values.rank < 1 || (values.rows() != 1 && values.rows() != static_cast<std::int64_t>(rows)))
    fail("{}: values is {}, expected 1 or {} rows", op, values.describe(), rows);
  expect(op, "values", values.reshape_row({values.width()}), {kAny, x.width()});
}

// The norm of heads x [T, H, E]: one row for all heads or one per head.
inline void expect_head_weight(const char* op, const char* operand, const Tensor& weight, const Tensor& x) {
  expect(op, operand, weight, {kAny, x.dim(2)});
  if (weight.dim(0) != 1 && weight.dim(0) != x.dim(1))
    fail("{}: {} is {}, expected 1 or {} rows", op, operand, weight.describe(), x.dim(1));
  expect_contiguous(op, operand, weight);
}

// Rows of the table for the tokens of x [T, H, E].
inline void expect_positions(const char* op, std::span<const std::int32_t> positions, const RopeTable& table,
                             const Tensor& x) {
  expect(op, "cos", table.cos, {kAny, kAny});
  expect(op, "sin", table.sin, {table.cos.dim(0), table.cos.dim(1)});
  if (2 * table.cos.dim(1) > x.dim(2))
    fail("{}: the table turns {} values, expected at most the head's {}", op, 2 * table.cos.dim(1), x.dim(2));
  expect_count(op, "positions", positions.size(), x.dim(0));
  expect_range(op, "position", positions, table.cos.dim(0));
}

// Weight of a norm and its bias, which may be missing.
inline void expect_affine(const char* op, const Tensor& weight, const Tensor& bias, std::int64_t width) {
  expect(op, "weight", weight, {width});
  if (!bias.empty()) expect(op, "bias", bias, {width});
}

inline void expect_documents(const char* op, const Documents& documents, std::int64_t tokens) {
  const auto starts = documents.starts;
  if (starts.empty() || starts.front() != 0 || starts.back() != tokens ||
      !std::is_sorted(starts.begin(), starts.end()))
    fail("{}: document starts run from {} to {} ({} of them), expected ascending from 0 to {}", op,
         starts.empty() ? 0 : starts.front(), starts.empty() ? 0 : starts.back(), starts.size(), tokens);
}

// Every document has keys within the rows of k, at least as many as queries.
inline void expect_keys(const char* op, const Documents& documents, const KeyRanges& keys,
                        std::int64_t rows) {
  const auto& starts = documents.starts;
  if (keys.first.empty() && keys.count.empty()) {
    if (starts.back() != rows) fail("{}: k has {} rows, expected {}", op, rows, starts.back());
    return;
  }
  if (keys.first.size() + 1 != starts.size() || keys.count.size() != keys.first.size())
    fail("{}: {} and {} key ranges, expected {}", op, keys.first.size(), keys.count.size(),
         starts.size() - 1);
  for (std::size_t i = 0; i < keys.first.size(); ++i)
    if (keys.first[i] < 0 || keys.count[i] < starts[i + 1] - starts[i] ||
        keys.first[i] + keys.count[i] > rows)
      fail("{}: document {} has keys {} to {}, expected at least its {} queries within {} rows", op, i,
           keys.first[i], keys.first[i] + keys.count[i], starts[i + 1] - starts[i], rows);
}

inline std::int64_t most_keys(const Documents& documents, const KeyRanges& keys) {
  return keys.count.empty() ? documents.longest() : *std::max_element(keys.count.begin(), keys.count.end());
}

// Query heads share key/value heads in equal groups.
inline void expect_groups(const char* op, std::int64_t heads, std::int64_t kv_heads) {
  if (kv_heads < 1 || heads % kv_heads != 0)
    fail("{}: {} query heads over {} kv heads, expected a multiple", op, heads, kv_heads);
}

}  // namespace sonde
