#include "io/tokenizer/utf8.h"

#include <cstring>

namespace sonde {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// Length of the valid code point at text[0], or minus the length of the maximal subpart that is broken.
int sequence_at(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const int length = lead >= 0xC2 && lead <= 0xDF   ? 2
                     : lead >= 0xE0 && lead <= 0xEF ? 3
                     : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                    : 0;
  if (length == 0) return -1;
  // The second byte's range shuts out overlong forms, surrogates and what lies above U+10FFFF (Unicode, table
  // 3-7).
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int i = 1; i < length; ++i) {
    if (static_cast<std::size_t>(i) >= text.size()) return -i;
    const unsigned next = byte(i);
    if (next < (i == 1 ? low : 0x80) || next > (i == 1 ? high : 0xBF)) return -i;
  }
  return length;
}

}  // namespace

void append_utf8(std::string& text, char32_t c) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text.push_back(static_cast<char>(0xC0 | c >> 6));
    text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    text.push_back(static_cast<char>(0xE0 | c >> 12));
    text.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    text.push_back(static_cast<char>(0xF0 | c >> 18));
    text.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

std::size_t valid_utf8_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    while (at + 8 <= text.size()) {  // eight ASCII bytes at once
      std::uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if (word & 0x8080808080808080u) break;
      at += 8;
    }
    if (at == text.size()) break;
    const int length = sequence_at(text.substr(at));
    if (length < 0) return at;
    at += static_cast<std::size_t>(length);
  }
  return at;
}

std::int64_t count_invalid_utf8(std::string_view text) {
  std::int64_t count = 0;
  for (std::size_t at = valid_utf8_prefix(text); at < text.size(); at += valid_utf8_prefix(text.substr(at))) {
    at += static_cast<std::size_t>(-sequence_at(text.substr(at)));
    ++count;
  }
  return count;
}

std::string replace_invalid_utf8(std::string_view text, std::vector<Span>* spans) {
  std::string valid;
  valid.reserve(text.size());
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t good = valid_utf8_prefix(text.substr(at));
    valid.append(text.substr(at, good));
    if (spans)
      for (std::size_t i = at; i < at + good; ++i)
        spans->push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i + 1)});
    at += good;
    if (at == text.size()) break;
    const auto broken = static_cast<std::size_t>(-sequence_at(text.substr(at)));
    valid.append(kReplacement);
    if (spans)
      spans->insert(spans->end(), 3,
                    {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at + broken)});
    at += broken;
  }
  return valid;
}

}  // namespace sonde
