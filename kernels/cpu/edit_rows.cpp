// Capture and edits on chosen rows. Rows may repeat in a gather; an edit's rows are distinct (backend.cpp
// checks).
#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace sonde::cpu {
namespace {

// f(i, row of x) for the i-th chosen row.
template <class F>
void on_rows(Tensor x, std::span<const std::int32_t> rows, const F& f) {
  parallel_rows(static_cast<std::int64_t>(rows.size()), x.width(),
                [&](std::int64_t i) { f(i, x.row(rows[static_cast<std::size_t>(i)])); });
}

// Row i of values [n or 1, width].
const float* value_row(Tensor values, std::int64_t i) { return values.row(values.rows() == 1 ? 0 : i); }

}  // namespace

void CpuBackend::do_gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) {
  const auto bytes = static_cast<std::size_t>(x.width()) * sizeof(float);
  on_rows(x, rows, [&](std::int64_t i, const float* row) { std::memcpy(y.row(i), row, bytes); });
}

void CpuBackend::do_pack_rows(Tensor y, Tensor sums, Tensor x, std::span<const std::int32_t> rows,
                              const PackFormat& format, Tensor before) {
  if (before.empty())
    std::fill_n(sums.as<double>(), sums.count(), 0.0);
  else if (before.data != sums.data)
    std::copy_n(before.as<double>(), before.count(), sums.as<double>());
  sonde::pack_rows(format, y, {sums.as<double>(), format.columns(x.width())}, x, rows);
}

void CpuBackend::do_replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) {
  const auto bytes = static_cast<std::size_t>(x.width()) * sizeof(float);
  on_rows(x, rows, [&](std::int64_t i, float* row) { std::memmove(row, value_row(values, i), bytes); });
}

void CpuBackend::do_add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values, float coefficient) {
  on_rows(x, rows, [&](std::int64_t i, float* row) {
    kernels_.rows.add_scaled(row, value_row(values, i), coefficient, x.width());
  });
}

void CpuBackend::do_scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) {
  on_rows(x, rows, [&](std::int64_t, float* row) { kernels_.rows.scale(row, row, factor, x.width()); });
}

void CpuBackend::do_fill_columns(Tensor x, std::span<const std::int32_t> rows,
                                 std::span<const std::int32_t> columns, float value) {
  on_rows(x, rows, [&](std::int64_t, float* row) {
    for (const std::int32_t column : columns) row[column] = value;
  });
}

void CpuBackend::do_clamp_rows(Tensor x, std::span<const std::int32_t> rows, float least, float most) {
  on_rows(x, rows, [&](std::int64_t, float* row) { kernels_.rows.clamp(row, row, least, most, x.width()); });
}

// All products with the basis first, then the subtraction: x - basis' (basis x).
void CpuBackend::do_project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) {
  on_rows(x, rows, [&](std::int64_t, float* row) {
    const auto bytes = static_cast<std::int64_t>(sizeof(float)) * basis.rows();
    auto* along = reinterpret_cast<float*>(thread_scratch(bytes));  // [r]
    for (std::int64_t i = 0; i < basis.rows(); ++i)
      along[i] = kernels_.rows.dot(row, basis.row(i), x.width());
    for (std::int64_t i = 0; i < basis.rows(); ++i)
      kernels_.rows.add_scaled(row, basis.row(i), -along[i], x.width());
  });
}

}  // namespace sonde::cpu
