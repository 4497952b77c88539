// The second stage of a tokenizer: cuts text into pieces that no token crosses. Stages run one after another,
// each on the pieces of the one before. A new kind is a new file with a factory here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace sonde {

struct Piece {
  std::uint32_t begin, end;  // bytes of Pieces::text, never empty
};

// A text and its cut. Buffers are kept between texts.
struct Pieces {
  std::string_view text;      // valid UTF-8: the source, or `edited` once a stage has changed it
  std::vector<Piece> pieces;  // in order
  bool want_spans = false;    // keep track of what each byte of the text stands for

  std::vector<Piece> cut;    // a stage writes its result here and swaps
  std::string edited, edit;  // a stage that changes the text writes `edit` (and edit_spans) and commits
  std::vector<Span> edited_spans, edit_spans;
  bool is_edited = false;
  const std::vector<Span>* source_spans = nullptr;  // of the source's bytes; null: each stands for itself

  void start(std::string_view source, const std::vector<Span>* spans, Piece piece) {
    text = source;
    pieces.assign(1, piece);
    source_spans = spans;
    is_edited = false;
  }
  void commit_edit() {
    edited.swap(edit);
    edited_spans.swap(edit_spans);
    pieces.swap(cut);
    text = edited;
    is_edited = true;
  }
  Span span(std::uint32_t byte) const {
    if (is_edited) return edited_spans[byte];
    return source_spans ? (*source_spans)[byte] : Span{byte, byte + 1};
  }
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces) const = 0;
};

// The pattern of GPT-2: contractions, words, numbers and runs of other characters with the space before them.
std::unique_ptr<PreTokenizer> make_gpt2_splitter(const CharClasses& classes);

// The pattern of Llama 3 and relatives: contractions in any case, words with one character before them,
// numbers in groups of at most max_digits, line ends with the spaces before them. Long s (U+017F) folds to s
// in Hugging Face's engine only.
enum class LongS { letter, is_s };
std::unique_ptr<PreTokenizer> make_llama3_splitter(const CharClasses& classes, int max_digits, LongS long_s);

enum class DigitRuns { together, one_by_one };
std::unique_ptr<PreTokenizer> make_digit_splitter(const CharClasses& classes, DigitRuns runs);

// The pattern of GPT-4o (o200k): words of capitals and then small letters, with a contraction at the end.
std::unique_ptr<PreTokenizer> make_o200k_splitter();

// A space before every piece that has none.
std::unique_ptr<PreTokenizer> make_space_prefixer();
// Every byte as its letter of the byte alphabet (byte_alphabet.h).
std::unique_ptr<PreTokenizer> make_byte_letters();

// Replaces the cut by repeated calls of next_end(begin, end): where the first piece of [begin, end) ends.
template <class NextEnd>
void cut_pieces(Pieces& pieces, NextEnd next_end) {
  pieces.cut.clear();
  for (const Piece& piece : pieces.pieces)
    for (std::uint32_t begin = piece.begin; begin < piece.end;) {
      const std::uint32_t end = next_end(begin, piece.end);
      pieces.cut.push_back({begin, end});
      begin = end;
    }
  pieces.pieces.swap(pieces.cut);
}

}  // namespace sonde
