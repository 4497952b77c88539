#include "io/tokenizer/byte_alphabet.h"

#include <array>

#include "io/tokenizer/utf8.h"

namespace sonde {
namespace {

struct Alphabet {
  std::array<char32_t, 256> letter{};
  std::array<int, 0x144> byte;  // -1: not a letter
  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool is_printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      letter[b] = is_printable ? static_cast<char32_t>(b) : next++;
      byte[letter[b]] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

char32_t letter_of_byte(unsigned char byte) { return alphabet().letter[byte]; }

std::optional<unsigned char> byte_of_letter(char32_t letter) {
  if (letter >= alphabet().byte.size() || alphabet().byte[letter] < 0) return {};
  return static_cast<unsigned char>(alphabet().byte[letter]);
}

std::optional<std::string> bytes_of_token(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint c = code_point_at(token.data() + at);
    const auto byte = byte_of_letter(c.value);
    if (!byte) return {};
    bytes.push_back(static_cast<char>(*byte));
    at += c.bytes;
  }
  return bytes;
}

}  // namespace sonde
