// Which tokens begin at a place of a text: a trie whose edges lie in one hash table.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sonde {

class TokenTrie {
 public:
  TokenTrie() : slots_(1 << 10), values_(1, -1) { roots_.fill(0); }

  // `value` >= 0; a string inserted twice keeps the later value. Empty strings are not inserted.
  void insert(std::string_view text, std::int32_t value) {
    std::uint32_t node = 0;
    for (const char c : text) node = child_or_new(node, static_cast<unsigned char>(c));
    if (node != 0) values_[node] = value;
  }

  // Calls found(end, value) for every string that begins at text[at], shortest first.
  template <class Found>
  void match(std::string_view text, std::size_t at, Found found) const {
    if (at >= text.size()) return;
    std::uint32_t node = roots_[static_cast<unsigned char>(text[at++])];
    while (node != 0) {
      if (values_[node] >= 0) found(at, values_[node]);
      if (at == text.size()) return;
      node = child(node, static_cast<unsigned char>(text[at++]));
    }
  }

 private:
  struct Slot {
    std::uint64_t key = 0;  // node << 8 | byte; no edge leads from node 0 here
    std::uint32_t child = 0;
  };
  std::size_t index(std::uint64_t key) const {
    std::size_t i = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[i].key != 0 && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  std::uint32_t child(std::uint32_t node, unsigned char byte) const {
    return slots_[index(std::uint64_t{node} << 8 | byte)].child;
  }
  std::uint32_t child_or_new(std::uint32_t node, unsigned char byte) {
    const auto fresh = static_cast<std::uint32_t>(values_.size());
    if (node == 0) {
      if (roots_[byte] == 0) roots_[byte] = fresh, values_.push_back(-1);
      return roots_[byte];
    }
    const std::uint64_t key = std::uint64_t{node} << 8 | byte;
    std::size_t i = index(key);
    if (slots_[i].key == 0) {
      if (2 * ++edges_ > slots_.size()) {
        grow();
        i = index(key);
      }
      slots_[i] = {key, fresh};
      values_.push_back(-1);
    }
    return slots_[i].child;
  }
  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    --shift_;
    for (const Slot& slot : old)
      if (slot.key != 0) slots_[index(slot.key)] = slot;
  }

  std::array<std::uint32_t, 256> roots_;
  std::vector<Slot> slots_;
  std::vector<std::int32_t> values_;  // of each node; -1: none
  std::size_t edges_ = 0;
  int shift_ = 64 - 10;
};

}  // namespace sonde
