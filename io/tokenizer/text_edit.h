// Rewriting the text of Pieces, keeping track of what every byte stands for where somebody asks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/pre_tokenizer.h"

namespace sonde {

// Writes the new text piece by piece: begin_piece, copies and inserts, end_piece; commit at the end. A piece
// that comes out empty is no piece.
class TextEdit {
 public:
  explicit TextEdit(Pieces& pieces) : p_(pieces) {
    p_.edit.clear();
    p_.edit_spans.clear();
    p_.cut.clear();
  }

  void begin_piece() { begin_ = size(); }
  bool is_piece_empty() const { return size() == begin_; }
  void end_piece() {
    if (size() > begin_) p_.cut.push_back({begin_, size()});
  }
  void commit() { p_.commit_edit(); }

  // Bytes [begin, end) of the text as they are.
  void copy(std::uint32_t begin, std::uint32_t end) {
    p_.edit.append(p_.text.substr(begin, end - begin));
    if (p_.want_spans)
      for (std::uint32_t i = begin; i < end; ++i) p_.edit_spans.push_back(p_.span(i));
  }
  // Other bytes in place of [begin, end); where begin == end, bytes that stand for nothing.
  void replace(std::uint32_t begin, std::uint32_t end, std::string_view bytes) {
    p_.edit.append(bytes);
    if (!p_.want_spans) return;
    const Span span = begin < end ? Span{p_.span(begin).begin, p_.span(end - 1).end} : place(begin);
    p_.edit_spans.insert(p_.edit_spans.end(), bytes.size(), span);
  }

 private:
  std::uint32_t size() const { return static_cast<std::uint32_t>(p_.edit.size()); }
  Span place(std::uint32_t at) const {
    if (at < p_.text.size()) return {p_.span(at).begin, p_.span(at).begin};
    return at > 0 ? Span{p_.span(at - 1).end, p_.span(at - 1).end} : Span{0, 0};
  }

  Pieces& p_;
  std::uint32_t begin_ = 0;
};

// Rewrites every piece character by character: change(code point) gives the bytes in its place, or nothing to
// keep it.
template <class Change>
void rewrite_characters(Pieces& pieces, Change change) {
  TextEdit edit(pieces);
  for (const Piece& piece : pieces.pieces) {
    edit.begin_piece();
    for (std::uint32_t at = piece.begin; at < piece.end;) {
      const CodePoint c = code_point_at(pieces.text.data() + at);
      std::string_view bytes;
      if (change(c.value, bytes))
        edit.replace(at, at + c.bytes, bytes);
      else
        edit.copy(at, at + c.bytes);
      at += c.bytes;
    }
    edit.end_piece();
  }
  edit.commit();
}

}  // namespace sonde
