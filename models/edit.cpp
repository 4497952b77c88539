#include "models/edit.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

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

// "edits.json: edit 3, blocks.1.attn.hook_z"
std::string place(const Edit& edit) {
  return edit.where.empty() ? name(edit.site) : edit.where + ", " + name(edit.site);
}

bool over_keys(const Edit& edit) { return info(edit.site.hook).shape == RowShape::HS; }

void check_heads(const Edit& edit, const HookSizes& sizes) {
  if (edit.heads.empty()) return;
  const RowShape shape = info(edit.site.hook).shape;
  const bool keys = shape == RowShape::KE;
  if (!keys && shape != RowShape::HE && shape != RowShape::HS)
    fail_hint("attn.hook_q, k, v, rot_q, rot_k, z, attn_scores and pattern have",
              "{}: key heads: found {}, expected none at a point without heads", place(edit),
              fmt::join(edit.heads, ", "));
  const std::int64_t heads = keys ? sizes.K : sizes.H;
  for (std::size_t i = 0; i < edit.heads.size(); ++i) {
    if (edit.heads[i] < 0 || edit.heads[i] >= heads)
      fail("{}: key heads: found {}, expected 0 to {}", place(edit), edit.heads[i], heads - 1);
    if (std::ranges::count(edit.heads, edit.heads[i]) > 1)
      fail("{}: key heads: {} stands there twice", place(edit), edit.heads[i]);
  }
}

void check_keys(const Edit& edit) {
  if (edit.op == EditOp::mask_scores && edit.site.hook != Hook::attn_scores)
    fail_hint("zero at hook_pattern knocks out weights without changing the others",
              "{}: op mask_scores works at attn.hook_attn_scores alone", place(edit));
  if (!edit.keys) return;
  if (!over_keys(edit)) fail("{}: key keys: only scores and patterns have keys", place(edit));
  const bool constant = edit.op == EditOp::mask_scores || edit.op == EditOp::zero ||
                        (edit.op == EditOp::replace && edit.number);
  if (!constant) fail("{}: key keys goes with mask_scores, zero, and replace by a number", place(edit));
}

// A given value has the width of the row, of the named heads side by side, or of one head.
void check_value(const Edit& edit, const HookSizes& sizes) {
  const bool basis = edit.op == EditOp::project_out;
  const bool wanted = basis || edit.op == EditOp::mean_ablate ||
                      ((edit.op == EditOp::replace || edit.op == EditOp::add) && !edit.number && !edit.rows);
  if (!wanted) return;
  if (over_keys(edit) && edit.op != EditOp::replace && edit.op != EditOp::add)
    fail("{}: rows of scores and patterns differ in length: this op needs rows of one", place(edit));
  const std::vector<std::int64_t> shape = row_shape(edit.site.hook, sizes);
  std::int64_t width = 1;
  for (std::int64_t n : shape) width *= n;
  const Tensor value = edit.value.view;
  const auto named = static_cast<std::int64_t>(edit.heads.size());
  const bool fits = !value.empty() && value.rank == 2 &&
                    (over_keys(edit) || value.width() == width ||
                     (named > 0 && (value.width() == shape[1] || value.width() == named * shape[1])));
  if (!fits)
    fail("{}: found a value of {}, expected rows of {}", place(edit), value.describe(),
         named == 0 ? width : shape[1]);
  if (basis && named > 0 && value.width() != shape[1])
    fail("{}: found a basis of {}, expected rows of one head, {}", place(edit), value.describe(), shape[1]);
  if (!basis && value.rows() != 1)
    fail("{}: found a value of {}, expected one row", place(edit), value.describe());
}

// Of given values, the columns for the slab of head `index` of the edit's list.
Tensor columns_for(Tensor values, const Edit& edit, std::size_t index, std::int64_t width) {
  if (edit.heads.empty() || values.width() == width) return values;
  const auto named = static_cast<std::int64_t>(edit.heads.size());
  const std::int64_t at =
      values.width() == named * width ? static_cast<std::int64_t>(index) : edit.heads[index];
  return values.slice_columns(at * width, width);
}

// One row of width values, all the same.
OwnedTensor filled(std::int64_t width, float value) {
  OwnedTensor row = make_tensor(DType::f32, {1, width});
  std::fill_n(row.view.f32(), width, value);
  return row;
}

}  // namespace

void check_edit(Edit& edit, const HookSizes& sizes) {
  check_heads(edit, sizes);
  check_keys(edit);
  check_value(edit, sizes);
  if (edit.op == EditOp::clamp && !(edit.least <= edit.most))
    fail("{}: found bounds {} and {}, expected the lower one first", place(edit), edit.least, edit.most);
  if (edit.op != EditOp::project_out) return;
  edit.value = orthonormalise(edit.value.view);
  if (edit.value.view.rows() == 0)
    fail("{}: the rows to project out are all zero, expected a direction", place(edit));
}

void check_edits(std::span<const Edit> edits, const HookSizes& sizes, const EditedDocument& document) {
  for (const Edit& edit : edits) {
    const auto select = [&](const TokenSelector& selector) {
      try {
        return selector.select(document.length, document.id);
      } catch (const Error& error) {
        throw Error(place(edit) + ": " + error.what(), error.hint());
      }
    };
    const std::vector<std::int32_t> chosen = select(edit.tokens);
    if (edit.keys) select(*edit.keys);
    if (edit.rows) edit.rows->check(document.number, chosen);
    if (!over_keys(edit) || edit.value.view.empty() || document.keys == 0) continue;
    const std::int64_t width = edit.value.view.width(), heads = static_cast<std::int64_t>(edit.heads.size());
    const bool fits = width == sizes.H * document.keys ||
                      (heads > 0 && (width == document.keys || width == heads * document.keys));
    if (!fits)
      fail("{}: document {}: found a value of {}, expected rows of {} heads x {} keys", place(edit),
           document.id, edit.value.view.describe(), heads > 0 ? heads : sizes.H, document.keys);
  }
}

void apply_edit(Backend& backend, const Edit& edit, Tensor x, std::span<const std::int32_t> rows,
                Tensor values, std::span<const std::int32_t> keys) {
  const Tensor row = x.reshape_row({x.width()});
  const bool by_head =
      !edit.heads.empty() || (over_keys(edit) && (edit.keys || edit.op == EditOp::mask_scores));
  const std::int64_t width = by_head ? x.width() / x.dim(1) : x.width();
  std::vector<std::int64_t> slabs = edit.heads;
  for (std::int64_t h = 0; edit.heads.empty() && h < row.width() / width; ++h) slabs.push_back(h);

  for (std::size_t i = 0; i < slabs.size(); ++i) {
    const Tensor slab = row.slice_columns(slabs[i] * width, width);
    const auto given = [&] {
      const Tensor all = values.empty() ? edit.value.view : values;
      const Tensor some = columns_for(all, edit, i, width);
      if (some.width() != width)
        fail("{}: found a value of {}, expected rows of {}", place(edit), all.describe(), width);
      return some;
    };
    OwnedTensor constant_row;
    const auto everywhere = [&](float value) {
      constant_row = backend.on_device(filled(width, value));
      return constant_row.view;
    };
    const auto constant = [&](float value) {
      if (edit.keys || edit.op == EditOp::mask_scores) return backend.fill_columns(slab, rows, keys, value);
      return backend.replace_rows(slab, rows, everywhere(value));
    };
    switch (edit.op) {
      case EditOp::replace:
        edit.number ? constant(*edit.number) : backend.replace_rows(slab, rows, given());
        break;
      case EditOp::mean_ablate:
        backend.replace_rows(slab, rows, given());
        break;
      case EditOp::zero:
        constant(0);
        break;
      case EditOp::mask_scores:
        constant(-std::numeric_limits<float>::infinity());
        break;
      case EditOp::add:
        backend.add_rows(slab, rows, edit.number ? everywhere(*edit.number) : given(), edit.coefficient);
        break;
      case EditOp::scale:
        backend.scale_rows(slab, rows, edit.coefficient);
        break;
      case EditOp::clamp:
        backend.clamp_rows(slab, rows, edit.least, edit.most);
        break;
      case EditOp::project_out:
        backend.project_out_rows(slab, rows, edit.value.view);
        break;
    }
  }
}

}  // namespace sonde
