#include "models/hooks.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

// As many contiguous rows of this shape, yet without memory.
Tensor rows_like(Tensor x, std::int64_t rows) {
  x.data = nullptr;
  x.shape[0] = rows;
  x.row_stride = x.width();
  return x;
}

bool after_blocks(Hook hook) { return hook >= Hook::ln_final_scale; }

}  // namespace

Hooks::Hooks(Backend& backend, std::int64_t n_layers)
    : backend_(backend),
      n_layers_(n_layers),
      flags_(static_cast<std::size_t>(kHooks * n_layers), 0),
      copies_(backend.make_row_copies()) {}

void Hooks::capture(std::span<const Site> sites, CaptureSink& sink, Columns columns) {
  columns_ = columns;
  sonde_check(sink_ == nullptr || sink_ == &sink, "one sink takes all captures");
  sink_ = &sink;
  for (Site site : sites) flags_[index(site)] |= kCaptured;
}

void Hooks::edit(Edit edit, const HookSizes& sizes) {
  check_edit(edit, sizes);
  if (!edit.value.view.empty()) edit.value = backend_.on_device(std::move(edit.value));
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

Hooks::Chosen Hooks::choose(const Edit& edit, const Batch& batch) const {
  Chosen chosen;
  for (std::size_t i = 0; i + 1 < batch.documents.starts.size(); ++i) {
    const std::int32_t first = batch.documents.starts[i], n = batch.documents.starts[i + 1] - first;
    const Stretch stretch =
        batch.stretches.empty() ? Stretch{static_cast<std::int64_t>(i), 0, n} : batch.stretches[i];
    const std::string document = std::to_string(stretch.document);
    Choice choice{edit.tokens.select(stretch.document_length, document),
                  0,
                  static_cast<std::int64_t>(chosen.tokens.size()),
                  0,
                  {}};
    for (const std::int32_t p : choice.positions) {
      const std::int64_t t = p - stretch.begin;
      if (t < 0) ++choice.first;
      if (t < 0 || t >= n) continue;
      chosen.tokens.push_back(first + static_cast<std::int32_t>(t));
      ++choice.n;
    }
    if (info(edit.site.hook).shape == RowShape::HS && n > 0) {
      const std::int64_t n_keys = batch.positions[static_cast<std::size_t>(first + n - 1)] + 1;
      static const TokenSelector all = TokenSelector::parse("all");
      for (const std::int32_t p : (edit.keys ? *edit.keys : all).select(stretch.document_length, document))
        if (const std::int64_t key = p - stretch.begin + batch.positions[static_cast<std::size_t>(first)];
            key >= 0 && key < n_keys)
          choice.keys.push_back(static_cast<std::int32_t>(key));
    }
    chosen.sequences.push_back(std::move(choice));
  }
  return chosen;
}

void Hooks::begin_batch(const Batch& batch) {
  reduced_ = false;
  selected_.assign(batch.selected.begin(), batch.selected.end());
  starts_.assign(batch.documents.starts.begin(), batch.documents.starts.end());
  documents_.clear();
  for (std::size_t i = 0; i + 1 < starts_.size(); ++i)
    documents_.push_back(batch.stretches.empty() ? static_cast<std::int64_t>(i)
                                                 : batch.stretches[i].document);
  chosen_.clear();
  for (const Edit& edit : edits_) chosen_.push_back(choose(edit, batch));
}

Hooks::Found Hooks::find(std::span<const std::int32_t> tokens, std::int64_t first_row, std::int64_t n) const {
  Found found;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    std::int64_t row = tokens[i];
    if (reduced_) {
      const auto at = std::ranges::lower_bound(selected_, tokens[i]);
      if (at == selected_.end() || *at != tokens[i]) continue;
      row = at - selected_.begin();
    }
    if (row < first_row || row >= first_row + n) continue;
    found.rows.push_back(static_cast<std::int32_t>(row - first_row));
    found.index.push_back(static_cast<std::int32_t>(i));
  }
  return found;
}

void Hooks::run(Site site, Tensor x, std::int64_t first_row) {
  edit_rows(site, x, first_row);
  if (captured(site)) capture_rows(site, x, first_row);
}

void Hooks::run(Site site, Tensor x, TensorGroup& group, std::int64_t first_row) {
  if (group.alone()) return run(site, x, first_row);
  if (edited(site)) {
    const Tensor whole = group.whole(site.hook, x);
    edit_rows(site, whole, first_row);
    group.take_part(site.hook, x, whole);
  }
  if (captured(site)) capture_rows(site, x, first_row, columns_ == Columns::own ? nullptr : &group);
}

void Hooks::edit_rows(Site site, Tensor x, std::int64_t first_row) {
  for (std::size_t e = 0; e < edits_.size(); ++e)
    if (edits_[e].site == site) run(edits_[e], chosen_[e], x, first_row);
}

// group: x holds this rank's columns, and those of all are wanted.
void Hooks::capture_rows(Site site, Tensor x, std::int64_t first_row, TensorGroup* group) {
  if (!takes_ && group == nullptr) return;
  const PhaseScope scope(Phase::capture);
  const Found found = find(selected_, first_row, x.rows());
  if (found.rows.empty()) return;
  const bool all = static_cast<std::int64_t>(found.rows.size()) == x.rows() && x.contiguous();
  if (group != nullptr) {
    const Tensor rows = group->whole(site.hook, all ? x : gathered(x, found.rows), taker_);
    if (!takes_) return;
    sink_->put(site, sink_->takes_device_rows() ? rows : backend_.on_host(rows, whole_rows_),
               found.index.front());
    return;
  }
  const std::int64_t row0 = found.index.front();
  const std::optional<Packing> packing = sink_->packing(site);
  if (copies_ != nullptr && !sink_->takes_device_rows()) {
    deliver(RowCopies::kMost - 1);
    if (packing)
      copies_->pack(x, found.rows, packing->format, index(site),
                    row0 == 0 ? RowCopies::First::yes : RowCopies::First::no);
    else
      copies_->copy(x, found.rows);
    on_the_way_.emplace_back(site, row0);
    return;
  }
  if (packing) return sink_->put_packed(site, packed(x, found.rows, *packing), row0);
  sink_->put(site, all ? x : gathered(x, found.rows), row0);
}

// The sink works on a capture while the device computes what follows it.
void Hooks::deliver(std::size_t left) {
  while (on_the_way_.size() > left) {
    const auto [site, row0] = on_the_way_.front();
    on_the_way_.pop_front();
    const PackedRows rows = copies_->take();
    if (rows.sums.empty())
      sink_->put(site, rows.rows, row0);
    else
      sink_->put_packed(site, rows, row0);
  }
}

// Scores and patterns come one sequence at a time, all else for the whole batch.
void Hooks::run(const Edit& edit, const Chosen& chosen, Tensor x, std::int64_t first_row) {
  const Found found = find(chosen.tokens, first_row, x.rows());
  if (found.rows.empty()) return;
  std::span<const std::int32_t> keys;
  if (info(edit.site.hook).shape == RowShape::HS) {
    const auto after = std::ranges::upper_bound(starts_, static_cast<std::int32_t>(first_row));
    keys = chosen.sequences[static_cast<std::size_t>(after - starts_.begin() - 1)].keys;
  }
  Tensor values;
  if (edit.rows) {
    values = rows_like(x, static_cast<std::int64_t>(found.rows.size()));
    if (const std::int64_t bytes = values.count() * 4; given_.bytes() < bytes) given_ = Buffer(bytes);
    values.data = given_.data();
    values.device = DeviceKind::cpu;
    std::int64_t row = 0;
    for (std::size_t s = 0; s < chosen.sequences.size(); ++s) {
      const Choice& choice = chosen.sequences[s];
      for (; row < values.rows(); ++row) {
        const std::int64_t k = found.index[static_cast<std::size_t>(row)] - choice.at;
        if (k >= choice.n) break;
        edit.rows->read(values.slice_rows(row, 1), documents_[s], choice.positions, choice.first + k);
      }
    }
    values = backend_.on_device(values.reshape_row({values.width()}), values_);
  }
  apply_edit(backend_, edit, x, found.rows, values, keys);
}

// On the host, where the sink's sums go on.
PackedRows Hooks::packed(Tensor x, std::span<const std::int32_t> rows, const Packing& packing) {
  PackedRows y{rows_like(x, static_cast<std::int64_t>(rows.size())),
               Tensor(packing.sums.data, DType::f64, {PackedSums::length(packing.sums.columns)})};
  y.rows.dtype = packing.format.dtype;
  if (const std::int64_t bytes = bytes_of(y.rows.dtype, y.rows.count()); gathered_.bytes() < bytes)
    gathered_ = backend_.allocate(bytes);
  y.rows.data = gathered_.data();
  backend_.pack_rows(y.rows, y.sums, x, rows, packing.format, y.sums);
  return y;
}

Tensor Hooks::gathered(Tensor x, std::span<const std::int32_t> rows) {
  Tensor y = rows_like(x, static_cast<std::int64_t>(rows.size()));
  if (const std::int64_t bytes = y.count() * 4; gathered_.bytes() < bytes)
    gathered_ = backend_.allocate(bytes);
  y.data = gathered_.data();
  backend_.gather_rows(y, x, rows);
  return y;
}

}  // namespace sonde
