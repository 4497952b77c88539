// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+   (GPT-2's pattern, by hand)
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {
namespace {

// Bytes of the lower-case contraction that follows the apostrophe at `at`, 0 for none.
std::uint32_t contraction(const TextCursor& text, std::uint32_t at, std::uint32_t end) {
  if (at + 1 >= end) return 0;
  const char a = text.byte(at + 1);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1;
  if (at + 2 >= end) return 0;
  const char b = text.byte(at + 2);
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 2 : 0;
}

class Gpt2Splitter final : public PreTokenizer {
 public:
  explicit Gpt2Splitter(const CharClasses& classes) : classes_(classes) {}

  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), classes_);
    cut_pieces(pieces, [&](std::uint32_t begin, std::uint32_t end) -> std::uint32_t {
      const char first = text.byte(begin);
      if (first == '\'')
        if (const std::uint32_t bytes = contraction(text, begin, end)) return begin + 1 + bytes;
      const std::uint32_t body = first == ' ' && begin + 1 < end ? begin + 1 : begin;
      const std::uint8_t classes = text.classes(body);
      if (classes & kLetter) return text.run_of(kLetter, body, end);
      if (classes & kNumber) return text.run_of(kNumber, body, end);
      if (!(classes & kSpace)) return text.run_without(kSpace | kLetter | kNumber, body, end);
      return text.whitespace_end(begin, text.run_of(kSpace, begin, end), end);
    });
  }

 private:
  const CharClasses& classes_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_gpt2_splitter(const CharClasses& classes) {
  return std::make_unique<Gpt2Splitter>(classes);
}

}  // namespace sonde
