#include "models/tensor_group.h"

#include <algorithm>

#include "runtime/error.h"

namespace sonde {
namespace {

// Heads, neurons or words of a hook's rows, of all ranks.
std::int64_t units_of(Hook hook, const std::vector<TensorShard>& shards) {
  return shards.back().units(hook).end;
}

}  // namespace

TensorGroup::TensorGroup(const Model& model, Backend& backend)
    : backend_(backend), ranks_(model.tensor_group) {
  for (int r = 0; r < model.shard.size; ++r)
    shards_.push_back(TensorShard::of(model.spec, r, model.shard.size));
}

void TensorGroup::sum(Tensor x) {
  if (alone() || x.count() == 0) return;
  sonde_check(x.contiguous(), "a sum of {} with gaps", x.describe());
  const Tensor host = backend_.on_host(x, host_slab_);
  ranks_->all_reduce(std::span(host.f32(), static_cast<std::size_t>(x.count())));
  if (host.data != x.data) backend_.scale(x, backend_.on_device(host, summed_), 1);
}

void TensorGroup::sum(std::span<double> x) {
  if (!alone()) ranks_->all_reduce(x);
}

Tensor TensorGroup::whole(Hook hook, Tensor slab) {
  if (alone()) return slab;
  constexpr std::int64_t kPiece = 1 << 22;  // floats of a rank that travel at once
  const std::int64_t rows = slab.rows(), unit = slab.rank == 3 ? slab.dim(2) : 1;
  const std::int64_t width = units_of(hook, shards_) * unit;
  std::int64_t widest = 0;
  for (const TensorShard& shard : shards_) widest = std::max(widest, shard.units(hook).size() * unit);
  if (host_whole_.bytes() < rows * width * 4) host_whole_ = Buffer(rows * width * 4);
  const Tensor full = slab.rank == 3 ? host_whole_.tensor(DType::f32, {rows, width / unit, unit})
                                     : host_whole_.tensor(DType::f32, {rows, width});
  const Tensor host = slab.count() == 0 ? Tensor{} : backend_.on_host(slab, host_slab_);

  const std::int64_t at_once = std::max<std::int64_t>(1, kPiece / widest);
  for (std::int64_t first = 0; first < rows; first += at_once) {
    const std::int64_t n = std::min(at_once, rows - first);
    mine_.resize(static_cast<std::size_t>(n * widest));
    all_.resize(mine_.size() * shards_.size());
    for (std::int64_t i = 0; i < n && !host.empty(); ++i)
      std::copy_n(host.row(first + i), host.width(), mine_.begin() + i * widest);
    ranks_->all_gather(std::span(all_), std::span<const float>(mine_));
    for (std::size_t r = 0; r < shards_.size(); ++r) {
      const Share& units = shards_[r].units(hook);
      const float* from = all_.data() + r * mine_.size();
      for (std::int64_t i = 0; i < n; ++i, from += widest)
        std::copy_n(from, units.size() * unit, full.row(first + i) + units.begin * unit);
    }
  }
  return backend_.on_device(full, whole_);
}

void TensorGroup::take_part(Hook hook, Tensor slab, Tensor whole) {
  if (alone()) return;
  const std::int64_t unit = whole.rank == 3 ? whole.dim(2) : 1, width = slab.width();
  const std::int64_t first = shards_[static_cast<std::size_t>(ranks_->rank())].units(hook).begin * unit;
  backend_.scale(slab.reshape_row({width}), whole.reshape_row({whole.width()}).slice_columns(first, width),
                 1);
}

}  // namespace sonde
