// English contractions at a place of a text, as the patterns of Llama 3 and GPT-4o take them.
#pragma once

#include <cstdint>

#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {

// Bytes of the contraction in any case ('s 't 'm 'd 're 've 'll) behind the apostrophe at `at`, 0 for none.
inline std::uint32_t contraction_in_any_case(const TextCursor& text, std::uint32_t at, std::uint32_t end,
                                             LongS long_s) {
  const auto lower = [&](std::uint32_t i) { return i < end ? static_cast<char>(text.byte(i) | 0x20) : '\0'; };
  const char a = lower(at + 1);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1;
  const char b = lower(at + 2);
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 2;
  const bool is_long_s = at + 2 < end && text.byte(at + 1) == '\xC5' && text.byte(at + 2) == '\xBF';
  return is_long_s && long_s == LongS::is_s ? 2 : 0;
}

}  // namespace sonde
