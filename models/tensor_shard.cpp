#include "models/tensor_shard.h"

#include <algorithm>

#include "runtime/error.h"

namespace sonde {
namespace {

Share times(const Share& share, std::int64_t unit) { return {share.begin * unit, share.end * unit}; }
Share shifted(const Share& share, std::int64_t by) { return {share.begin + by, share.end + by}; }

}  // namespace

std::int64_t Slab::row_count() const {
  std::int64_t n = 0;
  for (const Share& share : rows) n += share.size();
  return n;
}

TensorShard TensorShard::of(const ModelSpec& spec, int rank, int size) {
  TensorShard shard{.rank = rank, .size = size};
  shard.group = spec.n_heads / spec.n_kv_heads;
  shard.heads = share_of(spec.n_heads, rank, size);
  const std::int64_t first = shard.heads.begin / shard.group;
  shard.kv_heads = {first, shard.heads.size() == 0 ? first : (shard.heads.end - 1) / shard.group + 1};
  shard.neurons = share_of(spec.d_mlp, rank, size);
  shard.experts = share_of(spec.n_experts, rank, size);
  shard.vocab = share_of(spec.vocab, rank, size);
  return shard;
}

ModelSpec TensorShard::part_of(ModelSpec spec) const {
  spec.n_heads = heads.size();
  spec.n_kv_heads = kv_heads.size();
  spec.d_mlp = neurons.size();
  spec.vocab = vocab.size();
  return spec;
}

Slab TensorShard::slab(const TensorRow& row) const {
  const std::int64_t rows = row.shape[0], columns = row.shape.size() > 1 ? row.shape[1] : 1;
  const Share all{0, rows}, none{0, 0}, across{0, columns};
  switch (row.split) {
    case RankSplit::none:
      return {{all}, across};
    case RankSplit::once:
      return {{rank == 0 ? all : none}, across};
    case RankSplit::expert:
      return {{row.expert >= experts.begin && row.expert < experts.end ? all : none}, across};
    case RankSplit::vocab:
      return {{vocab}, across};
    case RankSplit::neurons:
      return {{neurons}, across};
    case RankSplit::gate_up:
      return {{neurons, shifted(neurons, rows / 2)}, across};
    case RankSplit::neuron_columns:
      return {{all}, neurons};
    case RankSplit::heads:
      return {{times(heads, row.head_rows)}, across};
    case RankSplit::kv_heads:
      return {{times(kv_heads, row.head_rows)}, across};
    case RankSplit::one_head:
      return {{row.head >= heads.begin && row.head < heads.end ? all : none}, across};
    case RankSplit::one_kv_head:
      return {{row.head >= kv_heads.begin && row.head < kv_heads.end ? all : none}, across};
    case RankSplit::qkv: {
      const std::int64_t e = row.head_rows, kv = rows / e / (group + 2), q = kv * group;
      return {{times(heads, e), times(shifted(kv_heads, q), e), times(shifted(kv_heads, q + kv), e)}, across};
    }
    case RankSplit::head_columns:
      return {{all}, times(heads, row.head_rows)};
  }
  fail("tensor {} has no rule for ranks", row.name);
}

const Share& TensorShard::units(Hook hook) const {
  switch (info(hook).shape) {
    case RowShape::HE:
    case RowShape::HS:
      return heads;
    case RowShape::KE:
      return kv_heads;
    case RowShape::F:
      return neurons;
    case RowShape::V:
      return vocab;
    default:
      fail("{} is the same on all ranks", info(hook).name);
  }
}

std::vector<HeadGroups> TensorShard::head_groups() const {
  std::vector<HeadGroups> parts;
  for (std::int64_t h = heads.begin; h < heads.end;) {
    const std::int64_t within = h % group, left = heads.end - h;
    const std::int64_t groups = within == 0 ? std::max<std::int64_t>(1, left / group) : 1;
    const std::int64_t n = std::min(left, groups * group - within);
    parts.push_back({h - heads.begin, n, h / group - kv_heads.begin, groups});
    h += n;
  }
  return parts;
}

}  // namespace sonde
