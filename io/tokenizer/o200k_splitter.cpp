// [^\r\n\p{L}\p{N}]?[U]*[l]+C?|[^\r\n\p{L}\p{N}]?[U]+[l]*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|
// \s+(?!\S)|\s+   (GPT-4o's pattern, by hand): U all letters but small ones and marks, l all but capitals and
// marks, C a contraction.
#include "io/tokenizer/contraction.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {
namespace {

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

class O200kSplitter final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), CharClasses::hugging_face_cases());
    cut_pieces(pieces, [&](std::uint32_t begin, std::uint32_t end) { return next_end(text, begin, end); });
  }

 private:
  static std::uint32_t next_end(const TextCursor& text, std::uint32_t begin, std::uint32_t end) {
    const std::uint8_t classes = text.classes(begin);
    if (classes & kNumber) return digits_end(text, begin, end);
    const bool is_letter = (classes & kLetter) != 0;
    const bool may_lead = !is_letter && !is_line_end(text.byte(begin));
    const std::uint32_t second = text.next(begin);
    const std::uint32_t word = may_lead ? second : begin;
    std::uint32_t capitals = word;
    if (is_letter || may_lead) {
      std::uint32_t found = small_end(text, word, end, capitals);
      // A mark may lead, and is else a word by itself.
      if (found == 0 && (classes & kUncased) && may_lead) found = second;
      if (found == 0 && capitals > word) found = capitals;
      if (found > 0) return with_contraction(text, found, end);
    }

    const std::uint32_t body = text.byte(begin) == ' ' ? second : begin;
    if (body < end && !(text.classes(body) & (kSpace | kLetter | kNumber))) {
      std::uint32_t at = text.run_without(kSpace | kLetter | kNumber, body, end);
      while (at < end && (is_line_end(text.byte(at)) || text.byte(at) == '/')) ++at;
      return at;
    }
    const std::uint32_t run_end = text.run_of(kSpace, begin, end);
    for (std::uint32_t at = run_end; at > begin; --at)
      if (is_line_end(text.byte(at - 1))) return at;
    return text.whitespace_end(begin, run_end, end);
  }

  // Where [U]*[l]+ at `at` ends, 0 if it does not match; `capitals`: where the run of U ends. The run gives
  // back what the small letters need.
  static std::uint32_t small_end(const TextCursor& text, std::uint32_t at, std::uint32_t end,
                                 std::uint32_t& capitals) {
    std::uint32_t last_uncased = 0;
    for (capitals = at; capitals < end;) {
      const std::uint8_t classes = text.classes(capitals);
      if (!(classes & (kUpper | kUncased))) break;
      capitals = text.next(capitals);
      if (classes & kUncased) last_uncased = capitals;
    }
    if (capitals < end && (text.classes(capitals) & kLower))
      return text.run_of(kLower | kUncased, capitals, end);
    return last_uncased;
  }

  static std::uint32_t with_contraction(const TextCursor& text, std::uint32_t at, std::uint32_t end) {
    if (at == end || text.byte(at) != '\'') return at;
    const std::uint32_t bytes = contraction_in_any_case(text, at, end, LongS::is_s);
    return bytes > 0 ? at + 1 + bytes : at;
  }

  static std::uint32_t digits_end(const TextCursor& text, std::uint32_t at, std::uint32_t end) {
    for (int n = 0; n < 3 && at < end && (text.classes(at) & kNumber); ++n) at = text.next(at);
    return at;
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_o200k_splitter() { return std::make_unique<O200kSplitter>(); }

}  // namespace sonde
