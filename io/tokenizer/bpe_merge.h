// Byte-pair merging of one word, exactly: the pair of lowest rank, among equals the leftmost, one merge at a
// time.
#pragma once

#include <cstdint>
#include <vector>

#include "io/tokenizer/merge_table.h"
#include "io/tokenizer/utf8.h"

namespace sonde {

// A word's symbols in, its tokens out. Ids below 0 are symbols that never merge.
struct BpeWord {
  std::vector<std::int32_t> ids;
  std::vector<Span> spans;  // bytes each covers; empty when nobody asks

  // Work space of long words, one entry a symbol.
  std::vector<std::uint32_t> next, before;
  std::vector<Merge> merge;         // of a symbol with its right neighbour
  std::vector<std::uint64_t> heap;  // rank << 32 | symbol; entries may be outdated
};

// O(n^2) with a small constant for short words, O(n log n) for long ones.
void merge_word(const MergeTable& merges, BpeWord& word);

}  // namespace sonde
