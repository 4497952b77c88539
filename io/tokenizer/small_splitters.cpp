// Digits apart from the rest, a space before each piece, bytes as letters.
#include <array>
#include <string>

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/text_cursor.h"
#include "io/tokenizer/text_edit.h"

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
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      if (pieces.text[piece.begin] != ' ') edit.replace(piece.begin, piece.begin, " ");
      edit.copy(piece.begin, piece.end);
      edit.end_piece();
    }
    edit.commit();
  }
};

class ByteLetters final : public PreTokenizer {
 public:
  ByteLetters() {
    for (int byte = 0; byte < 256; ++byte)
      append_utf8(letters_[static_cast<std::size_t>(byte)], letter_of_byte(static_cast<unsigned char>(byte)));
  }

  void apply(Pieces& pieces) const override {
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      for (std::uint32_t at = piece.begin; at < piece.end; ++at)
        edit.replace(at, at + 1, letters_[static_cast<unsigned char>(pieces.text[at])]);
      edit.end_piece();
    }
    edit.commit();
  }

 private:
  std::array<std::string, 256> letters_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_digit_splitter(const CharClasses& classes, DigitRuns runs) {
  return std::make_unique<DigitSplitter>(classes, runs);
}

std::unique_ptr<PreTokenizer> make_space_prefixer() { return std::make_unique<SpacePrefixer>(); }
std::unique_ptr<PreTokenizer> make_byte_letters() { return std::make_unique<ByteLetters>(); }

}  // namespace sonde
