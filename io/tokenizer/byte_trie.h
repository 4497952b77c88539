// A set of byte strings, for finding which of them begin at a place of a text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sonde {

class ByteTrie {
 public:
  ByteTrie() : nodes_(1) { roots_.fill(0); }

  // `value` >= 0; a string inserted twice keeps the later value. Empty strings are not inserted.
  void insert(std::string_view text, std::int32_t value) {
    std::uint32_t node = 0;
    for (const char c : text) node = child_or_new(node, static_cast<unsigned char>(c));
    if (node != 0) nodes_[node].value = value;
  }
  bool empty() const { return nodes_.size() == 1; }
  bool may_begin(char c) const { return roots_[static_cast<unsigned char>(c)] != 0; }

  // Calls found(end, value) for every string that begins at text[at], shortest first.
  template <class Found>
  void match(std::string_view text, std::size_t at, Found found) const {
    for (std::uint32_t node = 0; at < text.size();) {
      node = child(node, static_cast<unsigned char>(text[at++]));
      if (node == 0) return;
      if (nodes_[node].value >= 0) found(at, nodes_[node].value);
    }
  }

 private:
  struct Node {
    std::int32_t value = -1;
    std::uint32_t first_child = 0, sibling = 0;  // 0: none
    unsigned char byte = 0;
  };
  std::uint32_t child(std::uint32_t node, unsigned char byte) const {
    if (node == 0) return roots_[byte];
    std::uint32_t next = nodes_[node].first_child;
    while (next != 0 && nodes_[next].byte != byte) next = nodes_[next].sibling;
    return next;
  }
  std::uint32_t child_or_new(std::uint32_t node, unsigned char byte) {
    if (const std::uint32_t known = child(node, byte)) return known;
    const auto fresh = static_cast<std::uint32_t>(nodes_.size());
    nodes_.push_back({-1, 0, 0, byte});
    if (node == 0) {
      roots_[byte] = fresh;
    } else {
      nodes_[fresh].sibling = nodes_[node].first_child;
      nodes_[node].first_child = fresh;
    }
    return fresh;
  }

  std::vector<Node> nodes_;
  std::array<std::uint32_t, 256> roots_;
};

}  // namespace sonde
