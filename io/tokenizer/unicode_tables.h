// The generated table behind unicode.h: runs of code points with equal classes, as probed in the reference
// libraries (tools/make_unicode_tables.py).
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde {

// One bit a class; the order is that of CLASSES in the generator.
enum UnicodeClass : std::uint32_t {
  kHfLetter = 1u << 0,
  kHfNumber = 1u << 1,
  kHfSpace = 1u << 2,
  kHfDigit = 1u << 3,  // pre-tokenizer Digits: a newer Unicode than \p{N} of the same library
  kHfWord = 1u << 4,   // \w around single_word added tokens
  kLlamaLetter = 1u << 5,
  kLlamaNumber = 1u << 6,
  kLlamaSpace = 1u << 7,
};

struct UnicodeRun {
  std::uint32_t first;    // this run ends where the next begins, the last at U+10FFFF
  std::uint32_t classes;  // bits of UnicodeClass
};
extern const UnicodeRun kUnicodeRuns[];
extern const std::size_t kUnicodeRunCount;

}  // namespace sonde
