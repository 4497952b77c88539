// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ (Llama 3's pattern, by hand; Qwen2's has \p{N} in place
// of \p{N}{1,3})
#include "io/tokenizer/contraction.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {
namespace {

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

class Llama3Splitter final : public PreTokenizer {
 public:
  Llama3Splitter(const CharClasses& classes, int max_digits, LongS long_s)
      : classes_(classes), max_digits_(max_digits), long_s_(long_s) {}

  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), classes_);
    cut_pieces(pieces, [&](std::uint32_t begin, std::uint32_t end) { return next_end(text, begin, end); });
  }

 private:
  std::uint32_t next_end(const TextCursor& text, std::uint32_t begin, std::uint32_t end) const {
    const char first = text.byte(begin);
    if (first == '\'')
      if (const std::uint32_t bytes = contraction_in_any_case(text, begin, end, long_s_))
        return begin + 1 + bytes;

    const std::uint8_t classes = text.classes(begin);
    if (classes & kLetter) return text.run_of(kLetter, begin, end);
    if (classes & kNumber) return digits_end(text, begin, end);
    const std::uint32_t second = text.next(begin);
    const std::uint8_t second_classes = second < end ? text.classes(second) : std::uint8_t{kSpace};
    if (!is_line_end(first) && (second_classes & kLetter)) return text.run_of(kLetter, second, end);

    const std::uint32_t body = first == ' ' ? second : begin;
    if (!((first == ' ' ? second_classes : classes) & (kSpace | kLetter | kNumber))) {
      std::uint32_t at = text.run_without(kSpace | kLetter | kNumber, body, end);
      while (at < end && is_line_end(text.byte(at))) ++at;
      return at;
    }
    const std::uint32_t run_end = text.run_of(kSpace, begin, end);
    for (std::uint32_t at = run_end; at > begin; --at)
      if (is_line_end(text.byte(at - 1))) return at;
    return text.whitespace_end(begin, run_end, end);
  }

  std::uint32_t digits_end(const TextCursor& text, std::uint32_t at, std::uint32_t end) const {
    for (int n = 0; n < max_digits_ && at < end && (text.classes(at) & kNumber); ++n) at = text.next(at);
    return at;
  }

  const CharClasses& classes_;
  int max_digits_;
  LongS long_s_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_llama3_splitter(const CharClasses& classes, int max_digits, LongS long_s) {
  return std::make_unique<Llama3Splitter>(classes, max_digits, long_s);
}

}  // namespace sonde
