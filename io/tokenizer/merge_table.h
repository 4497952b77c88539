// The merges of a BPE vocabulary: pair of token ids -> rank and merged id. Open addressing, at most half
// full.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace sonde {

inline constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

struct Merge {
  std::uint32_t rank = kNoRank;  // kNoRank: the pair does not merge
  std::int32_t id = -1;
};

class MergeTable {
 public:
  explicit MergeTable(std::size_t merges = 0) : slots_(std::bit_ceil(2 * merges + 2)) {
    shift_ = 64 - std::countr_zero(slots_.size());
  }

  // False when the pair is there already; then the table stays as it was, unless `replace`.
  bool insert(std::int32_t left, std::int32_t right, Merge merge, bool replace) {
    Slot& slot = slots_[index(key(left, right))];
    const bool is_new = slot.merge.rank == kNoRank;
    if (is_new || replace) slot = {key(left, right), merge};
    return is_new;
  }
  Merge find(std::int32_t left, std::int32_t right) const { return slots_[index(key(left, right))].merge; }

 private:
  struct Slot {
    std::uint64_t key = 0;
    Merge merge;
  };
  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  // The slot of the key, or the empty one where it belongs.
  std::size_t index(std::uint64_t key) const {
    std::size_t i = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[i].merge.rank != kNoRank && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace sonde
