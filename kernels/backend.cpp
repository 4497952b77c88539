// The checks of every op, once for all backends: shapes, dtypes and index ranges, then the backend's do_*
// twin. An axis may be of size 0, where a rank holds none of it: then there is nothing to do.
#include "kernels/backend.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/operand_checks.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

// Without outputs or inputs: what a rank has of an axis with fewer units than ranks.
class EmptyWeight : public Weight {
 public:
  EmptyWeight(std::int64_t n, std::int64_t k) : n_(n), k_(k) {}
  std::int64_t n() const override { return n_; }
  std::int64_t k() const override { return k_; }
  std::int64_t bytes() const override { return 0; }

 private:
  std::int64_t n_, k_;
};

// The product of nothing.
void fill_with_bias(Backend& backend, Tensor y, Tensor bias) {
  if (bias.empty()) return backend.zero(y);
  std::vector<std::int32_t> rows(static_cast<std::size_t>(y.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  backend.replace_rows(y, rows, bias.part(0, {1, y.width()}));
}

}  // namespace

std::unique_ptr<DeviceRanks> Backend::join(RankLink&, std::string& why_not) {
  why_not = "tensors lie in the host's memory";
  return nullptr;
}

std::int64_t Documents::longest() const {
  std::int64_t most = 0;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    most = std::max<std::int64_t>(most, starts[i + 1] - starts[i]);
  return most;
}

OwnedTensor Backend::on_device(OwnedTensor host) {
  OwnedTensor moved;
  moved.view = on_device(host.view, moved.buffer);
  return moved.view.data == host.view.data ? std::move(host) : std::move(moved);
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
  const PhaseScope scope(Phase::load);
  expect("prepare_weight", "w", w, {kAny, kAny});
  if (w.count() == 0) return std::make_unique<EmptyWeight>(w.dim(0), w.dim(1));
  return do_prepare_weight(w, precision);
}

void Backend::linear(Tensor y, Tensor x, const Weight& w, Tensor bias) {
  const PhaseScope scope(Phase::gemm);
  expect("linear", "x", x, {kAny, w.k()});
  expect("linear", "y", y, {x.dim(0), w.n()});
  if (!bias.empty()) expect("linear", "bias", bias, {w.n()});
  if (y.count() == 0) return;
  if (w.k() == 0) return fill_with_bias(*this, y, bias);
  do_linear(y, x, w, bias);
}

void Backend::embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) {
  if (table.rank != 2) fail("embed: table is {}, expected [V, D]", table.describe());
  expect("embed", "out", out, {static_cast<std::int64_t>(ids.size()), table.dim(1)});
  expect_range("embed", "id", ids, table.dim(0));
  if (out.count() == 0) return;
  do_embed(out, table, ids);
}

std::unique_ptr<Weight> Backend::keep_weight(std::vector<RawRow> rows, std::int64_t k, Precision precision) {
  const PhaseScope scope(Phase::load);
  if (precision == Precision::fp8) fail("keep_weight: fp8 rounds rows anew, expected f32, bf16 or f16");
  for (const RawRow& row : rows)
    if (k % info(row.dtype).block_values != 0)
      fail("keep_weight: rows of {} values of {}, expected whole blocks of {}", k, name(row.dtype),
           info(row.dtype).block_values);
  return do_keep_weight(std::move(rows), k, precision);
}

void Backend::norm(NormKind kind, Tensor y, Tensor x, Tensor weight, Tensor bias, float eps) {
  expect("norm", "x", x, {kAny, kAny});
  expect("norm", "y", y, {x.dim(0), x.dim(1)});
  expect_affine("norm", weight, bias, x.dim(1));
  do_norm(kind, y, x, weight, bias, eps);
}

void Backend::norm_scale(NormKind kind, Tensor scale, Tensor x, float eps) {
  expect("norm_scale", "x", x, {kAny, kAny});
  expect("norm_scale", "scale", scale, {x.dim(0), 1});
  do_norm_scale(kind, scale, x, eps);
}

void Backend::normalize(NormKind kind, Tensor y, Tensor x, Tensor scale) {
  expect("normalize", "x", x, {kAny, kAny});
  expect("normalize", "y", y, {x.dim(0), x.dim(1)});
  expect("normalize", "scale", scale, {x.dim(0), 1});
  do_normalize(kind, y, x, scale);
}

void Backend::scale_columns(Tensor y, Tensor x, Tensor weight, Tensor bias) {
  expect("scale_columns", "x", x, {kAny, kAny});
  expect("scale_columns", "y", y, {x.dim(0), x.dim(1)});
  expect_affine("scale_columns", weight, bias, x.dim(1));
  do_scale_columns(y, x, weight, bias);
}

void Backend::add_norm(NormKind kind, Tensor resid, Tensor y, Tensor delta, Tensor weight, Tensor bias,
                       float eps) {
  expect("add_norm", "resid", resid, {kAny, kAny});
  expect("add_norm", "y", y, {resid.dim(0), resid.dim(1)});
  expect("add_norm", "delta", delta, {resid.dim(0), resid.dim(1)});
  expect_affine("add_norm", weight, bias, resid.dim(1));
  do_add_norm(kind, resid, y, delta, weight, bias, eps);
}

void Backend::norm_heads(NormKind kind, Tensor y, Tensor x, Tensor weight, float eps) {
  expect("norm_heads", "x", x, {kAny, kAny, kAny});
  expect("norm_heads", "y", y, {x.dim(0), x.dim(1), x.dim(2)});
  expect_head_weight("norm_heads", "weight", weight, x);
  if (y.count() == 0) return;
  do_norm_heads(kind, y, x, weight, eps);
}

void Backend::zero(Tensor y) {
  expect_like("zero", "y", y, y);
  if (y.count() == 0) return;
  do_zero(y);
}

void Backend::add(Tensor y, Tensor a, Tensor b) {
  expect_like("add", "y", y, y);
  expect_like("add", "a", a, y);
  expect_like("add", "b", b, y);
  if (y.count() == 0) return;
  do_add(y, a, b);
}

void Backend::scale(Tensor y, Tensor x, float factor) {
  expect_like("scale", "y", y, y);
  expect_like("scale", "x", x, y);
  if (y.count() == 0) return;
  do_scale(y, x, factor);
}

void Backend::softcap(Tensor y, Tensor x, float cap) {
  expect_like("softcap", "y", y, y);
  expect_like("softcap", "x", x, y);
  if (!(cap > 0)) fail("softcap: found {}, expected above 0", cap);
  if (y.count() == 0) return;
  do_softcap(y, x, cap);
}

void Backend::rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table,
                   RopePairs pairs) {
  expect("rope", "x", x, {kAny, kAny, kAny});
  expect("rope", "y", y, {x.dim(0), x.dim(1), x.dim(2)});
  expect_positions("rope", positions, table, x);
  if (y.count() == 0) return;
  do_rope(y, x, positions, table, pairs);
}

void Backend::qk_norm_rope(NormKind kind, Tensor q, Tensor k, Tensor q_weight, Tensor k_weight, float eps,
                           std::span<const std::int32_t> positions, const RopeTable& table, RopePairs pairs) {
  const char* op = "qk_norm_rope";
  expect(op, "q", q, {kAny, kAny, kAny});
  expect(op, "k", k, {q.dim(0), kAny, q.dim(2)});
  if (!q_weight.empty()) expect_head_weight(op, "q_weight", q_weight, q);
  if (!k_weight.empty()) expect_head_weight(op, "k_weight", k_weight, k);
  expect_positions(op, positions, table, q);
  if (q.count() + k.count() == 0) return;
  do_qk_norm_rope(kind, q, k, q_weight, k_weight, eps, positions, table, pairs);
}

void Backend::activate(Activation f, Tensor y, Tensor x) {
  expect_like("activate", "y", y, y);
  expect_like("activate", "x", x, y);
  if (y.count() == 0) return;
  do_activate(f, y, x);
}

void Backend::activate_mul(Activation f, Tensor y, Tensor gate, Tensor up) {
  expect_like("activate_mul", "y", y, y);
  expect_like("activate_mul", "gate", gate, y);
  expect_like("activate_mul", "up", up, y);
  if (y.count() == 0) return;
  do_activate_mul(f, y, gate, up);
}

void Backend::attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                        const KeyRanges& keys, const AttentionSpec& spec) {
  const PhaseScope scope(Phase::attention);
  expect("attention", "q", q, {kAny, kAny, kAny});
  expect("attention", "z", z, {q.dim(0), q.dim(1), q.dim(2)});
  expect("attention", "k", k, {kAny, kAny, q.dim(2)});
  expect("attention", "v", v, {k.dim(0), k.dim(1), q.dim(2)});
  expect_groups("attention", q.dim(1), k.dim(1));
  expect_documents("attention", documents, q.dim(0));
  expect_keys("attention", documents, keys, k.dim(0));
  if (!spec.lse.empty()) expect("attention", "lse", spec.lse, {q.dim(0), q.dim(1)});
  if (q.dim(0) > 0) do_attention(z, q, k, v, documents, keys, spec);
}

void Backend::attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                               const KeyRanges& keys, const AttentionSpec& spec) {
  const PhaseScope scope(Phase::attention);
  expect("attention_scores", "q", q, {kAny, kAny, kAny});
  expect("attention_scores", "k", k, {kAny, kAny, q.dim(2)});
  expect("attention_scores", "scores", scores, {q.dim(0), q.dim(1), kAny});
  expect_groups("attention_scores", q.dim(1), k.dim(1));
  expect_documents("attention_scores", documents, q.dim(0));
  expect_keys("attention_scores", documents, keys, k.dim(0));
  if (scores.dim(2) < most_keys(documents, keys))
    fail("attention_scores: scores is {}, expected at least {} keys", scores.describe(),
         most_keys(documents, keys));
  if (q.dim(0) > 0) do_attention_scores(scores, q, k, documents, keys, spec);
}

void Backend::softmax(Tensor y, Tensor x) {
  const PhaseScope scope(Phase::attention);
  expect("softmax", "x", x, {kAny, kAny, kAny});
  expect("softmax", "y", y, {x.dim(0), x.dim(1), x.dim(2)});
  do_softmax(y, x);
}

void Backend::attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents,
                              const KeyRanges& keys) {
  const PhaseScope scope(Phase::attention);
  expect("attention_apply", "z", z, {kAny, kAny, kAny});
  expect("attention_apply", "pattern", pattern, {z.dim(0), z.dim(1), kAny});
  expect("attention_apply", "v", v, {kAny, kAny, z.dim(2)});
  expect_groups("attention_apply", z.dim(1), v.dim(1));
  expect_documents("attention_apply", documents, z.dim(0));
  expect_keys("attention_apply", documents, keys, v.dim(0));
  if (pattern.dim(2) < most_keys(documents, keys))
    fail("attention_apply: pattern is {}, expected at least {} keys", pattern.describe(),
         most_keys(documents, keys));
  if (z.dim(0) > 0) do_attention_apply(z, pattern, v, documents, keys);
}

void Backend::route(Tensor weights, Tensor indices, Tensor logits, Renormalise renormalise) {
  expect("route", "logits", logits, {kAny, kAny});
  expect("route", "weights", weights, {logits.dim(0), kAny});
  expect("route", "indices", indices, {logits.dim(0), weights.dim(1)});
  if (weights.dim(1) > logits.dim(1))
    fail("route: {} of {} experts for a token, expected at most all", weights.dim(1), logits.dim(1));
  do_route(weights, indices, logits, renormalise);
}

bool Backend::linear_by_expert(Tensor y, Tensor x, Tensor experts, std::span<const Weight* const> weights,
                               std::int64_t first) {
  if (weights.empty() || first < 0) fail("linear_by_expert: {} experts from {} on", weights.size(), first);
  expect("linear_by_expert", "experts", experts, {kAny, kAny});
  expect("linear_by_expert", "x", x, {kAny, weights[0]->k()});
  expect("linear_by_expert", "y", y, {experts.count(), weights[0]->n()});
  if (x.dim(0) != experts.dim(0) && x.dim(0) != experts.count())
    fail("linear_by_expert: x is {}, expected {} or {} rows", x.describe(), experts.dim(0), experts.count());
  for (const Weight* w : weights)
    if (w->n() != weights[0]->n() || w->k() != weights[0]->k())
      fail("linear_by_expert: weights are [{}, {}] and [{}, {}]", weights[0]->n(), weights[0]->k(), w->n(),
           w->k());
  if (y.count() == 0) return true;
  return do_linear_by_expert(y, x, experts, weights, first);
}

void Backend::add_up_experts(Tensor y, Tensor x, Tensor experts, Tensor weights, std::int64_t first,
                             std::int64_t n) {
  expect("add_up_experts", "experts", experts, {kAny, kAny});
  expect("add_up_experts", "weights", weights, {experts.dim(0), experts.dim(1)});
  expect("add_up_experts", "x", x, {experts.count(), kAny});
  expect("add_up_experts", "y", y, {experts.dim(0), x.dim(1)});
  if (y.count() > 0) do_add_up_experts(y, x, experts, weights, first, n);
}

void Backend::scatter_add_rows(Tensor y, std::span<const std::int32_t> rows, Tensor x,
                               std::span<const float> weights) {
  expect_rows("scatter_add_rows", y, rows);
  expect_distinct("scatter_add_rows", rows);
  expect("scatter_add_rows", "x", x, {static_cast<std::int64_t>(rows.size()), y.width()});
  expect_count("scatter_add_rows", "weights", weights.size(), x.dim(0));
  do_scatter_add_rows(y, rows, x, weights);
}

void Backend::log_softmax_at(std::span<double> out, Tensor logits, std::span<const std::int32_t> targets,
                             float temperature) {
  expect("log_softmax_at", "logits", logits, {static_cast<std::int64_t>(out.size()), kAny});
  expect_count("log_softmax_at", "targets", targets.size(), logits.dim(0));
  expect_range("log_softmax_at", "target", targets, logits.dim(1));
  if (!(temperature > 0)) fail("log_softmax_at: temperature is {}, expected above 0", temperature);
  do_log_softmax_at(out, logits, targets, temperature);
}

void Backend::top_k(std::span<Candidate> out, Tensor x, std::int64_t k) {
  expect("top_k", "x", x, {kAny, kAny});
  if (k < 1 || k > std::min(x.dim(1), kMostCandidates))
    fail("top_k: k is {}, expected 1 to {}", k, std::min(x.dim(1), kMostCandidates));
  expect_count("top_k", "candidates", out.size(), x.dim(0) * k);
  if (!out.empty()) do_top_k(out, x, k);
}

void Backend::penalise(Tensor x, std::span<const std::int32_t> rows, std::span<const std::int32_t> columns,
                       double penalty) {
  expect("penalise", "x", x, {kAny, kAny});
  expect_range("penalise", "row", rows, x.dim(0));
  expect_count("penalise", "columns", columns.size(), static_cast<std::int64_t>(rows.size()));
  expect_range("penalise", "column", columns, x.dim(1));
  if (!(penalty > 0)) fail("penalise: penalty is {}, expected above 0", penalty);
  if (!rows.empty()) do_penalise(x, rows, columns, penalty);
}

void Backend::gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) {
  expect_rows("gather_rows", x, rows);
  if (y.rank < 1) fail("gather_rows: y is {}, expected rows", y.describe());
  expect("gather_rows", "y", y.reshape_row({y.width()}), {static_cast<std::int64_t>(rows.size()), x.width()});
  if (y.count() == 0) return;
  do_gather_rows(y, x, rows);
}

void Backend::replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) {
  expect_rows("replace_rows", x, rows);
  expect_distinct("replace_rows", rows);
  expect_values("replace_rows", values, x, rows.size());
  if (x.count() == 0) return;
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

void Backend::fill_columns(Tensor x, std::span<const std::int32_t> rows,
                           std::span<const std::int32_t> columns, float value) {
  expect_rows("fill_columns", x, rows);
  expect_range("fill_columns", "column", columns, x.width());
  do_fill_columns(x, rows, columns, value);
}

void Backend::clamp_rows(Tensor x, std::span<const std::int32_t> rows, float least, float most) {
  expect_rows("clamp_rows", x, rows);
  expect_distinct("clamp_rows", rows);
  if (!(least <= most)) fail("clamp_rows: found {} to {}, expected the smaller first", least, most);
  do_clamp_rows(x, rows, least, most);
}

void Backend::project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) {
  expect_rows("project_out_rows", x, rows);
  expect_distinct("project_out_rows", rows);
  expect("project_out_rows", "basis", basis, {kAny, x.width()});
  do_project_out_rows(x, rows, basis);
}

void Backend::pack_rows(Tensor y, Tensor sums, Tensor x, std::span<const std::int32_t> rows,
                        const PackFormat& format, Tensor before) {
  expect_rows("pack_rows", x, rows);
  if (y.rank < 1 || y.dtype != format.dtype || y.rows() != static_cast<std::int64_t>(rows.size()) ||
      y.width() != x.width())
    fail("pack_rows: y is {}, expected {} [{}, {}]", y.describe(), name(format.dtype), rows.size(),
         x.width());
  expect_contiguous("pack_rows", "y", y);
  if (format.pooled > 0 && (x.rank != 3 || format.pooled < x.width()))
    fail("pack_rows: x is {}, expected [T, heads, keys] of at most {} values", x.describe(), format.pooled);
  const std::int64_t length = PackedSums::length(format.columns(x.width()));
  for (const Tensor* t : {&sums, &before})
    if ((t == &sums || !t->empty()) && (t->dtype != DType::f64 || t->rank != 1 || t->dim(0) != length))
      fail("pack_rows: sums are {}, expected f64 [{}]", t->describe(), length);
  do_pack_rows(y, sums, x, rows, format, before);
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
