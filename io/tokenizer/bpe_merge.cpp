#include "io/tokenizer/bpe_merge.h"

#include <algorithm>
#include <functional>

namespace sonde {
namespace {

constexpr std::size_t kShortWord = 48;  // symbols; a scan for the lowest rank beats a heap up to about here
constexpr std::uint32_t kNone = 0xFFFFFFFF;

template <bool with_spans>
void merge_short(const MergeTable& merges, BpeWord& word) {
  std::int32_t* ids = word.ids.data();
  std::size_t n = word.ids.size();
  std::uint32_t rank[kShortWord];  // of the pair (i, i + 1)
  std::int32_t merged[kShortWord];
  const auto look_up = [&](std::size_t i) {
    const Merge found = merges.find(ids[i], ids[i + 1]);
    rank[i] = found.rank;
    merged[i] = found.id;
  };
  for (std::size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i)
      if (rank[i] < rank[best]) best = i;
    if (rank[best] == kNoRank) break;
    ids[best] = merged[best];
    if constexpr (with_spans) {
      word.spans[best].end = word.spans[best + 1].end;
      std::copy(&word.spans[best + 2], word.spans.data() + n, &word.spans[best + 1]);
    }
    std::copy(ids + best + 2, ids + n, ids + best + 1);
    --n;
    if (best + 1 < n) {  // pair (best + 1, best + 2) moves to best + 1
      std::copy(rank + best + 2, rank + n, rank + best + 1);
      std::copy(merged + best + 2, merged + n, merged + best + 1);
      look_up(best);
    }
    if (best > 0) look_up(best - 1);
  }
  word.ids.resize(n);
  if constexpr (with_spans) word.spans.resize(n);
}

// Symbols keep their places in a linked list; a merge removes the right one. Every rank names one pair, so an
// entry of the heap is current when the symbol's pair still has its rank.
void merge_long(const MergeTable& merges, BpeWord& word) {
  const auto n = static_cast<std::uint32_t>(word.ids.size());
  word.next.resize(n);
  word.before.resize(n);
  word.merge.resize(n);
  word.heap.clear();
  const auto look_up = [&](std::uint32_t i) {
    const std::uint32_t right = word.next[i];
    word.merge[i] = right == kNone ? Merge{} : merges.find(word.ids[i], word.ids[right]);
    return word.merge[i].rank != kNoRank;
  };
  const auto entry = [&](std::uint32_t i) { return std::uint64_t{word.merge[i].rank} << 32 | i; };
  for (std::uint32_t i = 0; i < n; ++i) {
    word.next[i] = i + 1 < n ? i + 1 : kNone;
    word.before[i] = i > 0 ? i - 1 : kNone;
    if (look_up(i)) word.heap.push_back(entry(i));
  }
  std::make_heap(word.heap.begin(), word.heap.end(), std::greater<>{});
  const auto push = [&](std::uint32_t i) {
    word.heap.push_back(entry(i));
    std::push_heap(word.heap.begin(), word.heap.end(), std::greater<>{});
  };
  while (!word.heap.empty()) {
    std::pop_heap(word.heap.begin(), word.heap.end(), std::greater<>{});
    const std::uint64_t lowest = word.heap.back();
    word.heap.pop_back();
    const auto i = static_cast<std::uint32_t>(lowest);
    if (word.merge[i].rank != lowest >> 32) continue;
    const std::uint32_t right = word.next[i];
    word.ids[i] = word.merge[i].id;
    if (!word.spans.empty()) word.spans[i].end = word.spans[right].end;
    word.merge[right] = {};
    word.next[i] = word.next[right];
    if (word.next[i] != kNone) word.before[word.next[i]] = i;
    if (look_up(i)) push(i);
    if (word.before[i] != kNone && look_up(word.before[i])) push(word.before[i]);
  }
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i != kNone && i < n; i = word.next[i], ++kept) {
    word.ids[kept] = word.ids[i];
    if (!word.spans.empty()) word.spans[kept] = word.spans[i];
  }
  word.ids.resize(kept);
  if (!word.spans.empty()) word.spans.resize(kept);
}

}  // namespace

void merge_word(const MergeTable& merges, BpeWord& word) {
  if (word.ids.size() > kShortWord) return merge_long(merges, word);
  return word.spans.empty() ? merge_short<false>(merges, word) : merge_short<true>(merges, word);
}

}  // namespace sonde
