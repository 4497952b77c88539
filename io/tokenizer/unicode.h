// Character classes as the two reference libraries have them; each knows another version of Unicode.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "io/tokenizer/unicode_tables.h"

namespace sonde {

// Classes of a code point, one library's view.
enum CharClass : std::uint8_t {
  kLetter = 1,
  kNumber = 2,
  kSpace = 4,
  kDigit = 8,   // what the pre-tokenizer Digits takes for one
  kWord = 16,   // \w beside an added token and of the pre-tokenizer Whitespace
  kPunct = 32,  // what the pre-tokenizer Punctuation takes for some
  kMark = 64,
  kAccent = 128,    // what the normaliser StripAccents takes out
  kSymbol = kWord,  // in llama.cpp's view, which has no words
  // Of hugging_face_cases: capitals and titles, small letters, letters without case and marks.
  kUpper = kDigit,
  kLower = kWord,
  kUncased = kPunct,
};

class CharClasses {
 public:
  static const CharClasses& hugging_face();
  static const CharClasses& llama_cpp();
  static const CharClasses& hugging_face_cases();  // kLetter, kNumber, kSpace, kUpper, kLower, kUncased

  std::uint8_t of(char32_t c) const { return blocks_[block_of_[c >> 7] + (c & 127)]; }  // c <= U+10FFFF
  std::uint8_t of_ascii(unsigned char c) const { return blocks_[c]; }

 private:
  struct Bit {
    UnicodeClass from;
    CharClass to;
  };
  template <std::size_t n>
  explicit CharClasses(const Bit (&bits)[n]);

  std::array<std::uint32_t, 0x110000 / 128> block_of_;  // first index in blocks_
  std::vector<std::uint8_t> blocks_;                    // distinct blocks of 128; block 0 is ASCII
};

}  // namespace sonde
