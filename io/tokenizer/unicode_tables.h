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
  kHfMark = 1u << 8,
  kHfPunctuationCategory = 1u << 9,  // \p{P}
  kHfSymbol = 1u << 10,
  kHfUpper = 1u << 11,  // Lu, and so on
  kHfLower = 1u << 12,
  kHfTitle = 1u << 13,
  kHfModifier = 1u << 14,
  kHfOtherLetter = 1u << 15,
  kHfDecimal = 1u << 16,
  kHfLetterNumber = 1u << 17,
  kHfOtherNumber = 1u << 18,
  kHfRegexWord = 1u << 19,    // \w of its regular expressions
  kHfPunctuation = 1u << 20,  // pre-tokenizer Punctuation
  kLlamaPunctuation = 1u << 21,
  kLlamaMark = 1u << 22,
  kLlamaSymbol = 1u << 23,
  kHfAccent = 1u << 24,  // normaliser StripAccents
};

struct UnicodeRun {
  std::uint32_t first;    // this run ends where the next begins, the last at U+10FFFF
  std::uint32_t classes;  // bits of UnicodeClass
};
extern const UnicodeRun kUnicodeRuns[];
extern const std::size_t kUnicodeRunCount;

}  // namespace sonde
