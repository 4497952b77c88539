// Digits apart from the rest, and a space before each piece.
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {
namespace {

class DigitSplitter final : public PreTokenizer {
 public:
  DigitSplitter(const CharClasses& classes, DigitRuns runs) : classes_(classes), runs_(runs) {}

  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), classes_);
    cut_pieces(pieces, [&](std::uint32_t begin, std::uint32_t end) -> std::uint32_t {
      if (!(text.classes(begin) & kDigit)) return text.run_without(kDigit, begin, end);
      return runs_ == DigitRuns::one_by_one ? text.next(begin) : text.run_of(kDigit, begin, end);
    });
  }

 private:
  const CharClasses& classes_;
  DigitRuns runs_;
};

class SpacePrefixer final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    pieces.edit.clear();
    pieces.edit_spans.clear();
    pieces.cut.clear();
    for (const Piece& piece : pieces.pieces) {
      const auto begin = static_cast<std::uint32_t>(pieces.edit.size());
      if (pieces.text[piece.begin] != ' ') {
        pieces.edit.push_back(' ');
        const std::uint32_t at = pieces.span(piece.begin).begin;
        if (pieces.want_spans) pieces.edit_spans.push_back({at, at});
      }
      pieces.edit.append(pieces.text.substr(piece.begin, piece.end - piece.begin));
      if (pieces.want_spans)
        for (std::uint32_t i = piece.begin; i < piece.end; ++i) pieces.edit_spans.push_back(pieces.span(i));
      pieces.cut.push_back({begin, static_cast<std::uint32_t>(pieces.edit.size())});
    }
    pieces.commit_edit();
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_digit_splitter(const CharClasses& classes, DigitRuns runs) {
  return std::make_unique<DigitSplitter>(classes, runs);
}

std::unique_ptr<PreTokenizer> make_space_prefixer() { return std::make_unique<SpacePrefixer>(); }

}  // namespace sonde
