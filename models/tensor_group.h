// The ranks that share a model's layers, as the forward sees them: what is computed in parts is summed, what
// a hook wants whole is gathered. Alone, every call leaves things as they are.
#pragma once

#include <span>
#include <vector>

#include "models/model.h"

namespace sonde {

class TensorGroup {
 public:
  TensorGroup(const Model& model, Backend& backend);

  bool alone() const { return ranks_ == nullptr || ranks_->size() == 1; }
  // x [T, D], contiguous, becomes the sum of all ranks' x: in their order, so that all have the same bits.
  void sum(Tensor x);
  void sum(std::span<double> x);
  // At a hook with sharded rows: the columns of all ranks side by side. A kv head that several ranks hold
  // appears once. Every rank calls it with as many rows. The result lives until the next call.
  Tensor whole(Hook hook, Tensor slab /*[n, units, ...]*/);
  // This rank's columns of a whole tensor become those of `slab`.
  void take_part(Hook hook, Tensor slab, Tensor whole);

 private:
  Backend& backend_;
  Communicator* ranks_;
  std::vector<TensorShard> shards_;  // of all ranks
  std::vector<float> mine_, all_;    // [rows, widest], [ranks, rows, widest]
  Buffer host_slab_, host_whole_, whole_, summed_;
};

}  // namespace sonde
