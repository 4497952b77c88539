#include "models/hooks.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace sonde {
namespace {

// Modified Gram-Schmidt in double, twice for accuracy; rows that add nothing are dropped.
OwnedTensor orthonormalise(Tensor rows) {
  const std::int64_t n = rows.rows(), width = rows.width();
  std::vector<std::vector<double>> basis;
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<double> v(rows.row(i), rows.row(i) + width);
    double norm0 = 0;
    for (double x : v) norm0 += x * x;
    for (int pass = 0; pass < 2; ++pass)
      for (const auto& b : basis) {
        double dot = 0;
        for (std::size_t j = 0; j < v.size(); ++j) dot += v[j] * b[j];
        for (std::size_t j = 0; j < v.size(); ++j) v[j] -= dot * b[j];
      }
    double norm = 0;
    for (double x : v) norm += x * x;
    if (!(norm > 1e-20 * norm0) || norm == 0) continue;
    for (double& x : v) x /= std::sqrt(norm);
    basis.push_back(std::move(v));
  }
  OwnedTensor out = make_tensor(DType::f32, {static_cast<std::int64_t>(basis.size()), width});
  for (std::size_t i = 0; i < basis.size(); ++i)
    std::ranges::transform(basis[i], out.view.row(static_cast<std::int64_t>(i)),
                           [](double x) { return static_cast<float>(x); });
  return out;
}

bool after_blocks(Hook hook) { return hook >= Hook::ln_final_scale; }

}  // namespace

Hooks::Hooks(Backend& backend, std::int64_t n_layers)
    : backend_(backend), n_layers_(n_layers), flags_(static_cast<std::size_t>(kHooks * n_layers), 0) {}

void Hooks::capture(std::span<const Site> sites, CaptureSink& sink) {
  sonde_check(sink_ == nullptr || sink_ == &sink, "one sink takes all captures");
  sink_ = &sink;
  for (Site site : sites) flags_[index(site)] |= kCaptured;
}

void Hooks::edit(Edit edit, const HookSizes& sizes) {
  if (info(edit.site.hook).cost == Cost::materialises)
    fail("edit at {}: scores and patterns cannot be edited yet", name(edit.site));
  const bool has_value =
      edit.op == EditOp::replace || edit.op == EditOp::add || edit.op == EditOp::project_out;
  std::int64_t width = 1;
  for (std::int64_t n : row_shape(edit.site.hook, sizes)) width *= n;
  if (has_value && (edit.value.view.empty() || edit.value.view.rank != 2 || edit.value.view.width() != width))
    fail("edit at {}: found a value of {}, expected rows of {}", name(edit.site), edit.value.view.describe(),
         width);
  const bool one_row = edit.op == EditOp::replace || edit.op == EditOp::add;
  if (one_row && edit.value.view.rows() != 1)
    fail("edit at {}: found a value of {}, expected one row", name(edit.site), edit.value.view.describe());
  if (edit.op == EditOp::project_out) {
    edit.value = orthonormalise(edit.value.view);
    if (edit.value.view.rows() == 0)
      fail("edit at {}: the rows to project out are all zero, expected a direction", name(edit.site));
  }
  if (edit.op == EditOp::zero) {
    edit.value = make_tensor(DType::f32, {1, width});
    std::fill_n(edit.value.view.f32(), width, 0.0f);
  }
  flags_[index(edit.site)] |= kEdited;
  edits_.push_back(std::move(edit));
}

std::int64_t Hooks::layers_needed() const {
  std::int64_t layers = 0;
  for (const HookInfo& row : hook_table())
    for (std::int64_t l = 0; l < n_layers_; ++l)
      if (active({row.hook, static_cast<int>(l)}))
        layers = std::max(layers, after_blocks(row.hook)       ? n_layers_
                                  : row.hook < Hook::resid_pre ? 0
                                                               : l + 1);
  return layers;
}

bool Hooks::needs_final_norm() const {
  return active({Hook::ln_final_scale}) || active({Hook::ln_final_normalized}) ||
         active({Hook::ln_final_out}) || needs_logits();
}

void Hooks::begin_batch(const Batch& batch) {
  reduced_ = false;
  selected_.assign(batch.selected.begin(), batch.selected.end());
  edit_tokens_.assign(edits_.size(), {});
  for (std::size_t e = 0; e < edits_.size(); ++e)
    for (std::size_t i = 0; i + 1 < batch.documents.starts.size(); ++i) {
      const std::int32_t first = batch.documents.starts[i], end = batch.documents.starts[i + 1];
      for (std::int32_t p : edits_[e].tokens.select(end - first, std::to_string(i)))
        edit_tokens_[e].push_back(first + p);
    }
}

void Hooks::run(Site site, Tensor x, std::int64_t first_row) {
  const std::int64_t n = x.rows();
  // Rows of x that hold the tokens of an ascending list; `at` gets the index of the first of them in the
  // list.
  const auto rows_of = [&](const std::vector<std::int32_t>& tokens, std::int64_t& at) {
    std::vector<std::int32_t> rows;
    at = -1;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::int64_t row = tokens[i];
      if (reduced_) {
        const auto found = std::ranges::lower_bound(selected_, tokens[i]);
        if (found == selected_.end() || *found != tokens[i]) continue;
        row = found - selected_.begin();
      }
      if (row < first_row || row >= first_row + n) continue;
      if (at < 0) at = static_cast<std::int64_t>(i);
      rows.push_back(static_cast<std::int32_t>(row - first_row));
    }
    return rows;
  };

  std::int64_t at = 0;
  for (std::size_t e = 0; e < edits_.size(); ++e)
    if (edits_[e].site == site)
      if (const auto rows = rows_of(edit_tokens_[e], at); !rows.empty()) apply(edits_[e], x, rows);

  if ((flags_[index(site)] & kCaptured) == 0) return;
  const auto rows = rows_of(selected_, at);
  if (rows.empty()) return;
  if (static_cast<std::int64_t>(rows.size()) == n && x.contiguous()) return sink_->put(site, x, at);
  Tensor gathered = scratch(static_cast<std::int64_t>(rows.size()), x);
  backend_.gather_rows(gathered, x, rows);
  sink_->put(site, gathered, at);
}

void Hooks::apply(const Edit& edit, Tensor x, std::span<const std::int32_t> rows) {
  switch (edit.op) {
    case EditOp::replace:
    case EditOp::zero:
      return backend_.replace_rows(x, rows, edit.value.view);
    case EditOp::add:
      return backend_.add_rows(x, rows, edit.value.view, edit.coefficient);
    case EditOp::scale:
      return backend_.scale_rows(x, rows, edit.coefficient);
    case EditOp::project_out:
      return backend_.project_out_rows(x, rows, edit.value.view);
  }
}

Tensor Hooks::scratch(std::int64_t rows, Tensor like) {
  const std::int64_t bytes = rows * like.width() * 4;
  if (scratch_.bytes() < bytes) scratch_ = Buffer(bytes);
  Tensor t = like;
  t.data = scratch_.data();
  t.shape[0] = rows;
  t.row_stride = like.width();
  return t;
}

}  // namespace sonde
