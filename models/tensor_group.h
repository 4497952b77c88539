// The ranks that share a model's layers, as the forward sees them: what is computed in parts is summed, what
// a hook wants whole is gathered. Alone, every call leaves things as they are.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "models/model.h"

namespace sonde {

// Collective: the devices of a model's group, null where sums go through the hosts. `sums` says how they are
// made.
std::unique_ptr<DeviceRanks> join_devices(Communicator& ranks, Backend& backend, std::string& sums);

class TensorGroup {
 public:
  TensorGroup(const Model& model, Backend& backend);

  bool alone() const { return ranks_ == nullptr || ranks_->size() == 1; }
  // x [T, D], contiguous, becomes the sum of all ranks' x: in their order, so that all have the same bits.
  void sum(Tensor x);
  // The same of x whose rows [first, first + n) `compute` writes: where devices talk to each other one half
  // travels while the other is computed.
  using Compute = std::function<void(std::int64_t first, std::int64_t n)>;
  void sum(Tensor x, const Compute& compute);
  void sum(std::span<double> x);
  // At a hook with sharded rows: the columns of all ranks side by side. A kv head that several ranks hold
  // appears once. Every rank calls it with as many rows, contiguous ones where one rank alone wants them. The
  // result lives until the next call.
  static constexpr int kAll = -1;
  Tensor whole(Hook hook, Tensor slab /*[n, units, ...]*/, int wanted_by = kAll);
  // This rank's columns of a whole tensor become those of `slab`.
  void take_part(Hook hook, Tensor slab, Tensor whole);

 private:
  Backend& backend_;
  Communicator* ranks_;
  DeviceRanks* devices_;             // the same ranks, or null
  std::vector<TensorShard> shards_;  // of all ranks
  // A piece of a slab, as wide as the widest rank's: [rows, widest], [ranks, rows, widest]
  std::vector<float> mine_, all_;
  Buffer device_mine_, device_all_;
  Buffer host_slab_, host_whole_, whole_, summed_;

  // How the columns of a hook's rows are shared out, and how many rows travel at once.
  struct Columns {
    std::int64_t unit, width, widest, at_once;
  };
  Columns columns_of(Hook hook, Tensor slab) const;
  Tensor whole_by_messages(Hook hook, Tensor slab, const Columns& columns, int wanted_by);
  Tensor whole_by_devices(Hook hook, Tensor slab, const Columns& columns);
};

}  // namespace sonde
