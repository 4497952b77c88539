// The checks of every op, once for all backends: shapes, dtypes and index ranges, then the backend's do_*
// twin.
#include "kernels/backend.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

namespace sonde {
namespace {

constexpr std::int64_t kAny = -1;

// One operand: its dims as expected (kAny: free), f32, rows that do not overlap.
void expect(const char* op, const char* operand, const Tensor& t, std::initializer_list<std::int64_t> dims) {
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
void expect_like(const char* op, const char* operand, const Tensor& t, const Tensor& like) {
  if (t.rank != like.rank || t.shape != like.shape)
    fail("{}: {} is {}, expected the shape of {}", op, operand, t.describe(), like.describe());
  expect(op, operand, t.reshape_row({t.width()}), {like.rows(), like.width()});
}

void expect_contiguous(const char* op, const char* operand, const Tensor& t) {
  if (!t.contiguous()) fail("{}: {} has rows {} apart, expected contiguous", op, operand, t.row_stride);
}

void expect_count(const char* op, const char* what, std::size_t found, std::int64_t expected) {
  if (static_cast<std::int64_t>(found) != expected) fail("{}: {} {}, expected {}", op, found, what, expected);
}

void expect_range(const char* op, const char* what, std::span<const std::int32_t> values, std::int64_t end) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] < 0 || values[i] >= end)
      fail("{}: {} {} is {}, expected 0 to {}", op, what, i, values[i], end - 1);
}

void expect_rows(const char* op, const Tensor& x, std::span<const std::int32_t> rows) {
  if (x.rank < 1) fail("{}: x is {}, expected rows", op, x.describe());
  expect_like(op, "x", x, x);
  expect_range(op, "row", rows, x.rows());
}

// An edit touches a row once, whatever the number of threads.
void expect_distinct(const char* op, std::span<const std::int32_t> rows) {
  std::vector<std::int32_t> sorted(rows.begin(), rows.end());
  if (!std::is_sorted(sorted.begin(), sorted.end())) std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) fail("{}: row {} is given twice, expected each row once", op, *twice);
}

void expect_values(const char* op, const Tensor& values, const Tensor& x, std::size_t rows) {
  if (values.rank < 1 || (values.rows() != 1 && values.rows() != static_cast<std::int64_t>(rows)))
    fail("{}: values is {}, expected 1 or {} rows", op, values.describe(), rows);
  expect(op, "values", values.reshape_row({values.width()}), {kAny, x.width()});
}

void expect_documents(const char* op, const Documents& documents, std::int64_t tokens) {
  const auto starts = documents.starts;
  if (starts.empty() || starts.front() != 0 || starts.back() != tokens ||
      !std::is_sorted(starts.begin(), starts.end()))
    fail("{}: document starts run from {} to {} ({} of them), expected ascending from 0 to {}", op,
         starts.empty() ? 0 : starts.front(), starts.empty() ? 0 : starts.back(), starts.size(), tokens);
}

// Query heads share key/value heads in equal groups.
void expect_groups(const char* op, std::int64_t heads, std::int64_t kv_heads) {
  if (kv_heads < 1 || heads % kv_heads != 0)
    fail("{}: {} query heads over {} kv heads, expected a multiple", op, heads, kv_heads);
}

}  // namespace

std::int64_t Documents::longest() const {
  std::int64_t most = 0;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    most = std::max<std::int64_t>(most, starts[i + 1] - starts[i]);
  return most;
}

void Backend::dequantise(Tensor out, Tensor raw) {
  expect("dequantise", "out", out.reshape_row({out.width()}), {kAny, kAny});
  expect_contiguous("dequantise", "out", out);
  expect_contiguous("dequantise", "raw", raw);
  if (out.count() != raw.count())
    fail("dequantise: out is {}, expected as many values as {}", out.describe(), raw.describe());
  do_dequantise(out, raw);
}

std::unique_ptr<Weight> Backend::prepare_weight(Tensor w, Precision precision) {
  expect("prepare_weight", "w", w, {kAny, kAny});
  return do_prepare_weight(w, precision);
}

void Backend::linear(Tensor y, Tensor x, const Weight& w, Tensor bias) {
  expect("linear", "x", x, {kAny, w.k()});
  expect("linear", "y", y, {x.dim(0), w.n()});
  if (!bias.empty()) expect("linear", "bias", bias, {w.n()});
  do_linear(y, x, w, bias);
}

void Backend::embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) {
  if (table.rank != 2) fail("embed: table is {}, expected [V, D]", table.describe());
  expect("embed", "out", out, {static_cast<std::int64_t>(ids.size()), table.dim(1)});
  expect_range("embed", "id", ids, table.dim(0));
  do_embed(out, table, ids);
}

void Backend::rms_norm(Tensor y, Tensor x, Tensor weight, float eps) {
  expect("rms_norm", "x", x, {kAny, kAny});
  expect("rms_norm", "y", y, {x.dim(0), x.dim(1)});
  expect("rms_norm", "weight", weight, {x.dim(1)});
  do_rms_norm(y, x, weight, eps);
}

void Backend::rms_scale(Tensor scale, Tensor x, float eps) {
  expect("rms_scale", "x", x, {kAny, kAny});
  expect("rms_scale", "scale", scale, {x.dim(0), 1});
  do_rms_scale(scale, x, eps);
}

void Backend::divide_rows(Tensor y, Tensor x, Tensor scale) {
  expect("divide_rows", "x", x, {kAny, kAny});
  expect("divide_rows", "y", y, {x.dim(0), x.dim(1)});
  expect("divide_rows", "scale", scale, {x.dim(0), 1});
  do_divide_rows(y, x, scale);
}

void Backend::multiply_columns(Tensor y, Tensor x, Tensor weight) {
  expect("multiply_columns", "x", x, {kAny, kAny});
  expect("multiply_columns", "y", y, {x.dim(0), x.dim(1)});
  expect("multiply_columns", "weight", weight, {x.dim(1)});
  do_multiply_columns(y, x, weight);
}

void Backend::add_rms_norm(Tensor resid, Tensor y, Tensor delta, Tensor weight, float eps) {
  expect("add_rms_norm", "resid", resid, {kAny, kAny});
  expect("add_rms_norm", "y", y, {resid.dim(0), resid.dim(1)});
  expect("add_rms_norm", "delta", delta, {resid.dim(0), resid.dim(1)});
  expect("add_rms_norm", "weight", weight, {resid.dim(1)});
  do_add_rms_norm(resid, y, delta, weight, eps);
}

void Backend::add(Tensor y, Tensor a, Tensor b) {
  expect_like("add", "y", y, y);
  expect_like("add", "a", a, y);
  expect_like("add", "b", b, y);
  do_add(y, a, b);
}

void Backend::rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table) {
  expect("rope", "x", x, {kAny, kAny, kAny});
  expect("rope", "y", y, {x.dim(0), x.dim(1), x.dim(2)});
  expect("rope", "cos", table.cos, {kAny, kAny});
  expect("rope", "sin", table.sin, {table.cos.dim(0), table.cos.dim(1)});
  if (2 * table.cos.dim(1) > x.dim(2))
    fail("rope: the table turns {} values, expected at most the head's {}", 2 * table.cos.dim(1), x.dim(2));
  expect_count("rope", "positions", positions.size(), x.dim(0));
  expect_range("rope", "position", positions, table.cos.dim(0));
  do_rope(y, x, positions, table);
}

void Backend::silu_mul(Tensor y, Tensor gate, Tensor up) {
  expect_like("silu_mul", "y", y, y);
  expect_like("silu_mul", "gate", gate, y);
  expect_like("silu_mul", "up", up, y);
  do_silu_mul(y, gate, up);
}

void Backend::attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                        const AttentionSpec& spec) {
  expect("attention", "q", q, {kAny, kAny, kAny});
  expect("attention", "z", z, {q.dim(0), q.dim(1), q.dim(2)});
  expect("attention", "k", k, {q.dim(0), kAny, q.dim(2)});
  expect("attention", "v", v, {q.dim(0), k.dim(1), q.dim(2)});
  expect_groups("attention", q.dim(1), k.dim(1));
  expect_documents("attention", documents, q.dim(0));
  if (q.dim(0) > 0) do_attention(z, q, k, v, documents, spec);
}

void Backend::attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                               const AttentionSpec& spec) {
  expect("attention_scores", "q", q, {kAny, kAny, kAny});
  expect("attention_scores", "k", k, {q.dim(0), kAny, q.dim(2)});
  expect("attention_scores", "scores", scores, {q.dim(0), q.dim(1), kAny});
  expect_groups("attention_scores", q.dim(1), k.dim(1));
  expect_documents("attention_scores", documents, q.dim(0));
  if (scores.dim(2) < documents.longest())
    fail("attention_scores: scores is {}, expected at least {} keys", scores.describe(), documents.longest());
  if (q.dim(0) > 0) do_attention_scores(scores, q, k, documents, spec);
}

void Backend::softmax(Tensor y, Tensor x) {
  expect("softmax", "x", x, {kAny, kAny, kAny});
  expect("softmax", "y", y, {x.dim(0), x.dim(1), x.dim(2)});
  do_softmax(y, x);
}

void Backend::attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents) {
  expect("attention_apply", "z", z, {kAny, kAny, kAny});
  expect("attention_apply", "pattern", pattern, {z.dim(0), z.dim(1), kAny});
  expect("attention_apply", "v", v, {z.dim(0), kAny, z.dim(2)});
  expect_groups("attention_apply", z.dim(1), v.dim(1));
  expect_documents("attention_apply", documents, z.dim(0));
  if (pattern.dim(2) < documents.longest())
    fail("attention_apply: pattern is {}, expected at least {} keys", pattern.describe(),
         documents.longest());
  if (z.dim(0) > 0) do_attention_apply(z, pattern, v, documents);
}

void Backend::gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) {
  expect_rows("gather_rows", x, rows);
  if (y.rank < 1) fail("gather_rows: y is {}, expected rows", y.describe());
  expect("gather_rows", "y", y.reshape_row({y.width()}), {static_cast<std::int64_t>(rows.size()), x.width()});
  do_gather_rows(y, x, rows);
}

void Backend::replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) {
  expect_rows("replace_rows", x, rows);
  expect_distinct("replace_rows", rows);
  expect_values("replace_rows", values, x, rows.size());
  do_replace_rows(x, rows, values);
}

void Backend::add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values, float coefficient) {
  expect_rows("add_rows", x, rows);
  expect_distinct("add_rows", rows);
  expect_values("add_rows", values, x, rows.size());
  do_add_rows(x, rows, values, coefficient);
}

void Backend::scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) {
  expect_rows("scale_rows", x, rows);
  expect_distinct("scale_rows", rows);
  do_scale_rows(x, rows, factor);
}

void Backend::project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) {
  expect_rows("project_out_rows", x, rows);
  expect_distinct("project_out_rows", rows);
  expect("project_out_rows", "basis", basis, {kAny, x.width()});
  do_project_out_rows(x, rows, basis);
}

void Backend::cast(Tensor y, Tensor x) {
  expect_like("cast", "x", x, x);
  if (y.dtype != DType::f32 && y.dtype != DType::bf16 && y.dtype != DType::f16)
    fail("cast: y is {}, expected f32, bf16 or f16", y.describe());
  if (y.rows() != x.rows() || y.width() != x.width())
    fail("cast: y is {}, expected the shape of {}", y.describe(), x.describe());
  expect_contiguous("cast", "y", y);
  do_cast(y, x);
}

}  // namespace sonde
