#include "models/tensor_group.h"

#include <algorithm>

#include "runtime/error.h"

namespace sonde {
namespace {

// Rows from which on two halves are worth their GEMMs: the smaller ones fill a GPU no longer.
constexpr std::int64_t kHalves = 512;

// Heads, neurons or words of a hook's rows, of all ranks.
std::int64_t units_of(Hook hook, const std::vector<TensorShard>& shards) {
  return shards.back().units(hook).end;
}

}  // namespace

std::unique_ptr<DeviceRanks> join_devices(Communicator& ranks, Backend& backend, std::string& sums) {
  const bool on_host = backend.device() == DeviceKind::cpu;
  if (ranks.size() == 1 || ranks.all_reduce(std::int64_t{on_host}, Reduce::max) != 0) {
    sums = "MPI, in the order of the ranks";
    return nullptr;
  }
  std::string why_not;
  auto joined = backend.join(*ranks.link(), why_not);
  sums = joined ? joined->describe() : fmt::format("MPI, through the hosts' memory ({})", why_not);
  return joined;
}

TensorGroup::TensorGroup(const Model& model, Backend& backend)
    : backend_(backend), ranks_(model.tensor_group), devices_(model.device_ranks.get()) {
  for (int r = 0; r < model.shard.size; ++r)
    shards_.push_back(TensorShard::of(model.spec, r, model.shard.size));
}

void TensorGroup::sum(Tensor x) {
  if (alone() || x.count() == 0) return;
  sonde_check(x.contiguous(), "a sum of {} with gaps", x.describe());
  if (devices_ != nullptr) return devices_->all_reduce(x);
  const Tensor host = backend_.on_host(x, host_slab_);
  ranks_->all_reduce(std::span(host.f32(), static_cast<std::size_t>(x.count())));
  if (host.data != x.data) backend_.scale(x, backend_.on_device(host, summed_), 1);
}

void TensorGroup::sum(Tensor x, const Compute& compute) {
  const std::int64_t rows = x.rows(), half = rows / 2 / 64 * 64;  // at an address that GEMMs like
  if (devices_ == nullptr || rows < kHalves) {
    compute(0, rows);
    return sum(x);
  }
  compute(0, half);
  devices_->start_all_reduce(x.slice_rows(0, half));
  compute(half, rows - half);
  devices_->start_all_reduce(x.slice_rows(half, rows - half));
  devices_->wait_for_sums();
}

void TensorGroup::sum(std::span<double> x) {
  if (!alone()) ranks_->all_reduce(x);
}

TensorGroup::Columns TensorGroup::columns_of(Hook hook, Tensor slab) const {
  constexpr std::int64_t kPiece = 1 << 22;  // floats of a rank that travel at once
  Columns c{slab.rank == 3 ? slab.dim(2) : 1, 0, 0, 0};
  c.width = units_of(hook, shards_) * c.unit;
  for (const TensorShard& shard : shards_) c.widest = std::max(c.widest, shard.units(hook).size() * c.unit);
  c.at_once = std::max<std::int64_t>(1, kPiece / std::max<std::int64_t>(1, c.widest));
  return c;
}

Tensor TensorGroup::whole(Hook hook, Tensor slab, int wanted_by) {
  if (alone()) return slab;
  const Columns c = columns_of(hook, slab);
  if (devices_ != nullptr) return whole_by_devices(hook, slab, c);
  if (wanted_by != kAll) return whole_by_messages(hook, slab, c, wanted_by);
  const std::int64_t rows = slab.rows(), unit = c.unit, widest = c.widest;
  if (host_whole_.bytes() < rows * c.width * 4) host_whole_ = Buffer(rows * c.width * 4);
  const Tensor full = slab.rank == 3 ? host_whole_.tensor(DType::f32, {rows, c.width / unit, unit})
                                     : host_whole_.tensor(DType::f32, {rows, c.width});
  const Tensor host = slab.count() == 0 ? Tensor{} : backend_.on_host(slab, host_slab_);

  for (std::int64_t first = 0; first < rows; first += c.at_once) {
    const std::int64_t n = std::min(c.at_once, rows - first);
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

// The same for one rank; the others send it their columns and go on.
Tensor TensorGroup::whole_by_messages(Hook hook, Tensor slab, const Columns& c, int wanted_by) {
  const std::int64_t rows = slab.rows();
  const auto n_values = static_cast<std::size_t>(slab.count());
  const Tensor host = slab.count() == 0 ? Tensor{} : backend_.on_host(slab, host_slab_);
  if (ranks_->rank() != wanted_by) {
    if (n_values == 0) return {};
    sonde_check(host.contiguous(), "columns of {} with gaps", host.describe());
    ranks_->send(std::span<const float>(host.f32(), n_values), wanted_by);
    return {};
  }
  if (host_whole_.bytes() < rows * c.width * 4) host_whole_ = Buffer(rows * c.width * 4);
  const Tensor full = host_whole_.tensor(DType::f32, {rows, c.width});
  for (int r = 0; r < ranks_->size(); ++r) {
    const Share& units = shards_[static_cast<std::size_t>(r)].units(hook);
    const std::int64_t width = units.size() * c.unit;
    if (rows * width == 0) continue;
    const float* from = host.f32();
    if (r != wanted_by) {
      all_.resize(static_cast<std::size_t>(rows * width));
      ranks_->receive(std::span(all_), r);
      from = all_.data();
    }
    for (std::int64_t i = 0; i < rows; ++i)
      std::copy_n(from + i * width, width, full.row(i) + units.begin * c.unit);
  }
  return backend_.on_device(slab.rank == 3 ? full.reshape_row({c.width / c.unit, c.unit}) : full, whole_);
}

// The same in the backend's stream: packed, gathered, each rank's columns put in their place.
Tensor TensorGroup::whole_by_devices(Hook hook, Tensor slab, const Columns& c) {
  const std::int64_t rows = slab.rows(), ranks = ranks_->size();
  const auto grown = [&](Buffer& buffer, std::int64_t n) {
    if (buffer.bytes() < n * 4) buffer = backend_.allocate(n * 4);
    return &buffer;
  };
  const Tensor full = grown(whole_, rows * c.width)->tensor(DType::f32, {rows, c.width});
  const std::int64_t own = slab.width();
  for (std::int64_t first = 0; first < rows; first += c.at_once) {
    const std::int64_t n = std::min(c.at_once, rows - first), piece = n * c.widest;
    const Tensor mine = grown(device_mine_, piece)->tensor(DType::f32, {n, c.widest});
    const Tensor all = grown(device_all_, ranks * piece)->tensor(DType::f32, {ranks * n, c.widest});
    if (own > 0) backend_.scale(mine.slice_columns(0, own), slab.slice_rows(first, n).reshape_row({own}), 1);
    devices_->all_gather(all, mine);
    for (std::int64_t r = 0; r < ranks; ++r) {
      const Share& units = shards_[static_cast<std::size_t>(r)].units(hook);
      if (units.size() == 0) continue;
      const std::int64_t width = units.size() * c.unit;
      backend_.scale(full.slice_rows(first, n).slice_columns(units.begin * c.unit, width),
                     all.slice_rows(r * n, n).slice_columns(0, width), 1);
    }
  }
  return slab.rank == 3 ? full.reshape_row({c.width / c.unit, c.unit}) : full;
}

void TensorGroup::take_part(Hook hook, Tensor slab, Tensor whole) {
  if (alone()) return;
  const std::int64_t unit = whole.rank == 3 ? whole.dim(2) : 1, width = slab.width();
  const std::int64_t first = shards_[static_cast<std::size_t>(ranks_->rank())].units(hook).begin * unit;
  backend_.scale(slab.reshape_row({width}), whole.reshape_row({whole.width()}).slice_columns(first, width),
                 1);
}

}  // namespace sonde
