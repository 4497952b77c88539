// Tensor parallel: what one rank of a tensor group holds of the axes that its ranks share out. Heads,
// neurons, experts and rows of the vocabulary are split as evenly as whole ones allow; a rank may hold none.
// Key/value heads follow the query heads that read them, so that several ranks may hold the same one.
#pragma once

#include <cstdint>
#include <vector>

#include "distributed/shares.h"
#include "models/spec.h"
#include "models/tensor_table.h"
#include "runtime/hook.h"

namespace sonde {

// Of a tensor's rows and columns as the table has them, those that a rank holds.
struct Slab {
  std::vector<Share> rows;  // ascending
  Share columns{0, 1};      // of a matrix
  std::int64_t row_count() const;
};

// Query heads [q, q + heads) and the kv heads [kv, kv + kv_heads) they read, in equal groups. Both count from
// the rank's first.
struct HeadGroups {
  std::int64_t q, heads, kv, kv_heads;
};

struct TensorShard {
  int rank = 0, size = 1;
  Share heads{0, 0}, kv_heads{0, 0}, neurons{0, 0}, experts{0, 0}, vocab{0, 0};
  std::int64_t group = 1;  // query heads that share a kv head, in the whole model

  static TensorShard of(const ModelSpec& spec, int rank, int size);

  ModelSpec part_of(ModelSpec spec) const;  // H, K, F and V as this rank has them
  Slab slab(const TensorRow& row) const;
  // At a hook whose rows are sharded: the heads, neurons or words of it.
  const Share& units(Hook hook) const;
  // What attention runs at once: where this rank begins or ends within a group, that part of it is apart.
  std::vector<HeadGroups> head_groups() const;
};

}  // namespace sonde
