// Which characters stand next to each other in some token of a vocabulary. Where a text has a pair that none
// has, no merge reaches across, so that a word can be cut there and each part be merged (and remembered)
// alone.
#pragma once

#include <bit>
#include <bitset>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "io/tokenizer/utf8.h"

namespace sonde {

class PairSet {
 public:
  bool contains(char32_t a, char32_t b) const {
    if ((a | b) < 0x80) return ascii_[a << 7 | b];
    for (std::size_t i = index(key(a, b));; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i] == key(a, b)) return true;
      if (slots_[i] == 0) return false;
    }
  }
  // All pairs of a token; broken UTF-8 has none.
  void add_token(std::string_view token) {
    if (valid_utf8_prefix(token) < token.size() || token.empty()) return;
    CodePoint before = code_point_at(token.data());
    for (std::size_t at = before.bytes; at < token.size();) {
      const CodePoint c = code_point_at(token.data() + at);
      add(before.value, c.value);
      before = c;
      at += c.bytes;
    }
  }

 private:
  static std::uint64_t key(char32_t a, char32_t b) {
    return std::uint64_t{a} << 32 | b;
  }  // never 0: not both ASCII
  std::size_t index(std::uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }
  void add(char32_t a, char32_t b) {
    if ((a | b) < 0x80) {
      ascii_[a << 7 | b] = true;
      return;
    }
    if (contains(a, b)) return;
    if (2 * ++pairs_ > slots_.size()) {
      const std::vector<std::uint64_t> old(2 * slots_.size());
      const std::vector<std::uint64_t> keys = std::exchange(slots_, old);
      --shift_;
      for (const std::uint64_t k : keys)
        if (k != 0) put(k);
    }
    put(key(a, b));
  }
  void put(std::uint64_t key) {
    std::size_t i = index(key);
    while (slots_[i] != 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = key;
  }

  std::bitset<128 * 128> ascii_;
  std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(1 << 10);
  std::size_t pairs_ = 0;
  int shift_ = 64 - 10;
};

}  // namespace sonde
