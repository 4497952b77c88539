// Recently encoded words of one thread: bytes of a word -> its tokens. Bounded; a full set forgets its older
// word.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace sonde {

class WordCache {
 public:
  static constexpr std::size_t kMaxBytes = 30, kMaxTokens = 8;
  struct alignas(64) Entry {
    std::uint8_t bytes = 0;  // 0: free
    std::uint8_t tokens = 0;
    char word[kMaxBytes];
    std::int32_t ids[kMaxTokens];
  };

  static bool fits(std::string_view word) { return word.size() <= kMaxBytes; }

  // The word's set: its first entry, the second one follows. `word` fits and is not empty.
  Entry* set_of(std::string_view word) { return &entries_[2 * (hash(word) >> (64 - kSetBits))]; }
  static const Entry* find(const Entry* set, std::string_view word) {
    for (int way = 0; way < 2; ++way)
      if (set[way].bytes == word.size() && std::memcmp(set[way].word, word.data(), word.size()) == 0)
        return &set[way];
    return nullptr;
  }
  static void insert(Entry* set, std::string_view word, std::span<const std::int32_t> ids) {
    if (ids.size() > kMaxTokens) return;
    set[1] = set[0];
    set[0].bytes = static_cast<std::uint8_t>(word.size());
    set[0].tokens = static_cast<std::uint8_t>(ids.size());
    std::memcpy(set[0].word, word.data(), word.size());
    std::copy(ids.begin(), ids.end(), set[0].ids);
  }

 private:
  static constexpr int kSetBits = 15;  // 2^15 sets of two 64-byte entries: 4 MiB a thread

  static std::uint64_t load(const char* at, std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, at, bytes);
    return value;
  }
  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  static std::uint64_t hash(std::string_view word) {
    constexpr std::uint64_t kA = 0x9E3779B97F4A7C15u, kB = 0xD6E8FEB86659FD93u;
    const std::size_t n = word.size();
    const char* p = word.data();
    if (n < 4) {  // first, middle and last byte
      const auto byte = [&](std::size_t i) {
        return static_cast<std::uint64_t>(static_cast<unsigned char>(p[i]));
      };
      return mix((byte(0) << 16 | byte(n / 2) << 8 | byte(n - 1)) ^ kA, kB ^ n);
    }
    if (n < 8) return mix((load(p, 4) << 32 | load(p + n - 4, 4)) ^ kA, kB ^ n);
    std::uint64_t h = kA ^ n;
    for (std::size_t i = 0; i + 8 < n; i += 8) h = mix(h ^ load(p + i, 8), kB);
    return mix(h ^ load(p + n - 8, 8), kB);
  }

  std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{2} << kSetBits);
};

}  // namespace sonde
