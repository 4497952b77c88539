// What hand-written splitters share: classes at a byte position and runs of characters, ASCII first.
#pragma once

#include <cstdint>

#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace sonde {

class TextCursor {
 public:
  TextCursor(const char* text, const CharClasses& classes) : text_(text), classes_(classes) {}

  char byte(std::uint32_t at) const { return text_[at]; }
  std::uint8_t classes(std::uint32_t at) const {
    const auto lead = static_cast<unsigned char>(text_[at]);
    return lead < 0x80 ? classes_.of_ascii(lead) : classes_.of(code_point_at(text_ + at).value);
  }
  // Where the character at `at` ends.
  std::uint32_t next(std::uint32_t at) const { return at + code_point_at(text_ + at).bytes; }
  // Where the character that ends at `end` begins.
  std::uint32_t previous(std::uint32_t end) const { return previous_code_point(text_, end); }

  // Where the run of characters with any (run_of) or none (run_without) of the classes ends.
  std::uint32_t run_of(std::uint8_t wanted, std::uint32_t at, std::uint32_t end) const {
    return run(at, end, [=](std::uint8_t found) { return (found & wanted) != 0; });
  }
  std::uint32_t run_without(std::uint8_t unwanted, std::uint32_t at, std::uint32_t end) const {
    return run(at, end, [=](std::uint8_t found) { return (found & unwanted) == 0; });
  }

  // \s+(?!\S)|\s+ on a run of whitespace that begins at `at`: all of it at the end of the text or when it is
  // one character, else all but its last character.
  std::uint32_t whitespace_end(std::uint32_t at, std::uint32_t run_end, std::uint32_t end) const {
    if (run_end == end) return end;
    const std::uint32_t last = previous_code_point(text_, run_end);
    return last > at ? last : run_end;
  }

 private:
  template <class Belongs>
  std::uint32_t run(std::uint32_t at, std::uint32_t end, Belongs belongs) const {
    while (at < end) {
      const auto lead = static_cast<unsigned char>(text_[at]);
      if (lead < 0x80) {
        if (!belongs(classes_.of_ascii(lead))) break;
        ++at;
      } else {
        const CodePoint c = code_point_at(text_ + at);
        if (!belongs(classes_.of(c.value))) break;
        at += c.bytes;
      }
    }
    return at;
  }

  const char* text_;
  const CharClasses& classes_;
};

}  // namespace sonde
