// UTF-8 helpers: decoding of valid text, and the replacement of broken bytes (one U+FFFD per maximal subpart,
// the policy of Python's errors="replace" and of Rust's from_utf8_lossy).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

// The code point at text[at] and its length. The text must be valid UTF-8.
struct CodePoint {
  char32_t value;
  std::uint32_t bytes;
};
inline CodePoint code_point_at(const char* text) {
  const auto* u = reinterpret_cast<const unsigned char*>(text);
  if (u[0] < 0x80) return {u[0], 1};
  if (u[0] < 0xE0) return {(u[0] & 0x1Fu) << 6 | (u[1] & 0x3Fu), 2};
  if (u[0] < 0xF0) return {(u[0] & 0x0Fu) << 12 | (u[1] & 0x3Fu) << 6 | (u[2] & 0x3Fu), 3};
  return {(u[0] & 0x07u) << 18 | (u[1] & 0x3Fu) << 12 | (u[2] & 0x3Fu) << 6 | (u[3] & 0x3Fu), 4};
}
// Where the code point that ends at text[end] begins.
inline std::uint32_t previous_code_point(const char* text, std::uint32_t end) {
  do --end;
  while ((text[end] & 0xC0) == 0x80);
  return end;
}
void append_utf8(std::string& text, char32_t c);

// Bytes at the start of `text` that are valid UTF-8; text.size() when all are.
std::size_t valid_utf8_prefix(std::string_view text);
// How many U+FFFD replace_invalid_utf8 would write.
std::int64_t count_invalid_utf8(std::string_view text);

// Bytes [begin, end) of the source that a byte of an edited text stands for; empty for what was inserted.
struct Span {
  std::uint32_t begin = 0, end = 0;
};
// Valid text; with `spans`, one entry per byte of the result.
std::string replace_invalid_utf8(std::string_view text, std::vector<Span>* spans = nullptr);

}  // namespace sonde
