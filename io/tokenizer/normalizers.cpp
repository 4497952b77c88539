#include "io/tokenizer/normalizer.h"

#include <algorithm>

#include "io/tokenizer/text_cursor.h"
#include "io/tokenizer/text_edit.h"

namespace sonde {
namespace {

const CharClasses& classes() { return CharClasses::hugging_face(); }

class NormalFormStage final : public PreTokenizer {
 public:
  explicit NormalFormStage(NormalForm form) : form_(form) {}

  // ASCII never changes and a character behind it never reaches over it: only stretches of other characters,
  // each with the character before it, are worked on.
  void apply(Pieces& pieces) const override {
    const auto changes = [&](const Piece& piece) {
      for (std::uint32_t at = piece.begin; at < piece.end;) {
        const CodePoint c = code_point_at(pieces.text.data() + at);
        if (c.value >= 0x80 && may_change(form_, c.value)) return true;
        at += c.bytes;
      }
      return false;
    };
    if (std::ranges::none_of(pieces.pieces, changes)) return;
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      std::uint32_t done = piece.begin;
      for (std::uint32_t at = piece.begin; at < piece.end; ++at) {
        if (!(pieces.text[at] & 0x80)) continue;
        const std::uint32_t begin = at > done ? at - 1 : at;
        while (at < piece.end && (pieces.text[at] & 0x80)) ++at;
        edit.copy(done, begin);
        rewrite(pieces, begin, at, edit);
        done = at;
      }
      edit.copy(done, piece.end);
      edit.end_piece();
    }
    edit.commit();
  }

 private:
  void rewrite(const Pieces& pieces, std::uint32_t begin, std::uint32_t end, TextEdit& edit) const {
    std::vector<char32_t> source;
    std::vector<std::uint32_t> starts;
    for (std::uint32_t at = begin; at < end;) {
      const CodePoint c = code_point_at(pieces.text.data() + at);
      source.push_back(c.value);
      starts.push_back(at);
      at += c.bytes;
    }
    starts.push_back(end);
    std::vector<NormalLetter> result;
    normalise(form_, source, result);
    std::string bytes;
    for (const NormalLetter& letter : result) {
      bytes.clear();
      append_utf8(bytes, letter.c);
      edit.replace(starts[letter.begin], starts[letter.end], bytes);
    }
  }

  NormalForm form_;
};

class LowerCaseStage final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    std::string bytes;
    rewrite_characters(pieces, [&](char32_t c, std::string_view& out) {
      if (c < 0x80 && (c < 'A' || c > 'Z')) return false;
      const std::vector<char32_t> lower = lower_case(c);
      if (lower.size() == 1 && lower[0] == c) return false;
      bytes.clear();
      for (const char32_t letter : lower) append_utf8(bytes, letter);
      out = bytes;
      return true;
    });
  }
};

class StripAccents final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    rewrite_characters(pieces,
                       [](char32_t c, std::string_view&) { return (classes().of(c) & kAccent) != 0; });
  }
};

class Nmt final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    rewrite_characters(pieces, [](char32_t c, std::string_view& out) {
      const bool removed = (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
                           c == 0x8F || c == 0x9F;
      const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                         (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                         c == 0xFEFF || c == 0xFFFD;
      if (space) out = " ";
      return removed || space;
    });
  }
};

class Strip final : public PreTokenizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), classes());
    pieces.cut.clear();
    for (Piece piece : pieces.pieces) {
      if (left_) piece.begin = text.run_of(kSpace, piece.begin, piece.end);
      while (right_ && piece.end > piece.begin && (text.classes(text.previous(piece.end)) & kSpace))
        piece.end = text.previous(piece.end);
      if (piece.begin < piece.end) pieces.cut.push_back(piece);
    }
    pieces.pieces.swap(pieces.cut);
  }

 private:
  bool left_, right_;
};

class Prepend final : public PreTokenizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

  void apply(Pieces& pieces) const override {
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      edit.replace(piece.begin, piece.begin, prefix_);
      edit.copy(piece.begin, piece.end);
      edit.end_piece();
    }
    edit.commit();
  }

 private:
  std::string prefix_;
};

class Replace final : public PreTokenizer {
 public:
  Replace(std::string literal, std::unique_ptr<Regex> regex, std::string content)
      : literal_(std::move(literal)), regex_(std::move(regex)), content_(std::move(content)) {}

  void apply(Pieces& pieces) const override {
    if (!regex_ && (literal_.empty() || pieces.text.find(literal_) == std::string_view::npos)) return;
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      std::uint32_t done = piece.begin;
      for_each_match(pieces.text, piece, [&](std::uint32_t begin, std::uint32_t end) {
        edit.copy(done, begin);
        edit.replace(begin, end, content_);
        done = end;
      });
      edit.copy(done, piece.end);
      edit.end_piece();
    }
    edit.commit();
  }

 private:
  template <class Found>
  void for_each_match(std::string_view text, const Piece& piece, Found found) const {
    if (regex_) return regex_->for_each_match(text, piece.begin, piece.end, found);
    const std::string_view stretch = text.substr(0, piece.end);
    for (std::size_t at = piece.begin; (at = stretch.find(literal_, at)) != std::string_view::npos;
         at += literal_.size())
      found(static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at + literal_.size()));
  }

  std::string literal_;
  std::unique_ptr<Regex> regex_;
  std::string content_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_normal_form(NormalForm form) {
  return std::make_unique<NormalFormStage>(form);
}
std::unique_ptr<PreTokenizer> make_lower_case() { return std::make_unique<LowerCaseStage>(); }
std::unique_ptr<PreTokenizer> make_strip_accents() { return std::make_unique<StripAccents>(); }
std::unique_ptr<PreTokenizer> make_strip(bool left, bool right) {
  return std::make_unique<Strip>(left, right);
}
std::unique_ptr<PreTokenizer> make_prepend(std::string text) {
  return std::make_unique<Prepend>(std::move(text));
}
std::unique_ptr<PreTokenizer> make_replace(std::string literal, std::string content) {
  return std::make_unique<Replace>(std::move(literal), nullptr, std::move(content));
}
std::unique_ptr<PreTokenizer> make_replace(std::unique_ptr<Regex> regex, std::string content) {
  return std::make_unique<Replace>("", std::move(regex), std::move(content));
}
std::unique_ptr<PreTokenizer> make_nmt() { return std::make_unique<Nmt>(); }

}  // namespace sonde
