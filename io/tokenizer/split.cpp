#include "io/tokenizer/split.h"

#include <algorithm>

#include "io/tokenizer/script_table.h"
#include "io/tokenizer/text_cursor.h"
#include "io/tokenizer/text_edit.h"

namespace sonde {
namespace {

struct Stretch {
  std::uint32_t begin, end;
  bool is_match;
};

// Appends the pieces that a behaviour makes of matches and what lies between them; empty ones, which empty
// matches may leave, are dropped at the end.
void join(const std::vector<Stretch>& stretches, SplitBehavior behavior, std::vector<Piece>& out) {
  const std::size_t first = out.size();
  bool before = false;
  switch (behavior) {
    case SplitBehavior::removed:
      for (const Stretch& s : stretches)
        if (!s.is_match) out.push_back({s.begin, s.end});
      return;
    case SplitBehavior::isolated:
      for (const Stretch& s : stretches) out.push_back({s.begin, s.end});
      return;
    case SplitBehavior::contiguous:
      for (const Stretch& s : stretches) {
        if (s.is_match == before && out.size() > first)
          out.back().end = s.end;
        else
          out.push_back({s.begin, s.end});
        before = s.is_match;
      }
      return;
    case SplitBehavior::merged_with_previous:
      for (const Stretch& s : stretches) {
        if (s.is_match && !before && out.size() > first)
          out.back().end = s.end;
        else
          out.push_back({s.begin, s.end});
        before = s.is_match;
      }
      return;
    case SplitBehavior::merged_with_next:
      for (auto s = stretches.rbegin(); s != stretches.rend(); ++s) {
        if (s->is_match && !before && out.size() > first)
          out.back().begin = s->begin;
        else
          out.push_back({s->begin, s->end});
        before = s->is_match;
      }
      std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
  }
}

// match(text, piece, found) calls found(begin, end) for every match, left to right.
template <class Match>
class Splitter final : public PreTokenizer {
 public:
  Splitter(Match match, SplitBehavior behavior, bool invert)
      : match_(std::move(match)), behavior_(behavior), invert_(invert) {}

  void apply(Pieces& pieces) const override {
    pieces.cut.clear();
    std::vector<Stretch> stretches;
    bool has_empty = false;
    for (const Piece& piece : pieces.pieces) {
      stretches.clear();
      std::uint32_t done = piece.begin;
      match_(pieces.text, piece, [&](std::uint32_t begin, std::uint32_t end) {
        if (done < begin) stretches.push_back({done, begin, invert_});
        stretches.push_back({begin, end, !invert_});
        has_empty |= begin == end;
        done = end;
      });
      if (done < piece.end) stretches.push_back({done, piece.end, invert_});
      join(stretches, behavior_, pieces.cut);
    }
    if (has_empty) std::erase_if(pieces.cut, [](const Piece& p) { return p.begin == p.end; });
    pieces.pieces.swap(pieces.cut);
  }

 private:
  Match match_;
  SplitBehavior behavior_;
  bool invert_;
};

template <class Match>
std::unique_ptr<PreTokenizer> make_splitter(Match match, SplitBehavior behavior, bool invert) {
  return std::make_unique<Splitter<Match>>(std::move(match), behavior, invert);
}

template <class Found>
void for_each_literal(std::string_view text, const Piece& piece, const std::string& literal, Found found) {
  const std::string_view stretch = text.substr(0, piece.end);
  for (std::size_t at = piece.begin;
       !literal.empty() && (at = stretch.find(literal, at)) != std::string_view::npos; at += literal.size())
    found(static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at + literal.size()));
}

class WhitespaceSplitter final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), CharClasses::hugging_face());
    pieces.cut.clear();
    for (const Piece& piece : pieces.pieces)
      for (std::uint32_t at = piece.begin; at < piece.end;) {
        const std::uint8_t classes = text.classes(at);
        const std::uint32_t end = classes & kWord    ? text.run_of(kWord, at, piece.end)
                                  : classes & kSpace ? text.run_of(kSpace, at, piece.end)
                                                     : text.run_without(kWord | kSpace, at, piece.end);
        if (!(classes & kSpace) || (classes & kWord)) pieces.cut.push_back({at, end});
        at = end;
      }
    pieces.pieces.swap(pieces.cut);
  }
};

std::uint8_t script_of(char32_t c) {
  const auto* end = kScriptRuns + kScriptRunsCount;
  const auto* after =
      std::upper_bound(kScriptRuns, end, c, [](char32_t x, const ScriptRun& run) { return x < run.first; });
  return after[-1].script;
}

// A cut before every character of another script than the one before it; what goes with every script stays
// with what it stands behind, and at the start is dropped.
class ScriptSplitter final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    pieces.cut.clear();
    for (const Piece& piece : pieces.pieces) {
      int last = -1;
      for (std::uint32_t at = piece.begin; at < piece.end;) {
        const CodePoint c = code_point_at(pieces.text.data() + at);
        const int script = script_of(c.value);
        if (script != 0 && script != last) {
          if (last >= 0) pieces.cut.back().end = at;
          pieces.cut.push_back({at, piece.end});
        }
        if (script != 0) last = script;
        at += c.bytes;
      }
    }
    pieces.pieces.swap(pieces.cut);
  }
};

class FixedLengthSplitter final : public PreTokenizer {
 public:
  explicit FixedLengthSplitter(std::size_t characters) : characters_(characters) {}

  void apply(Pieces& pieces) const override {
    cut_pieces(pieces, [&](std::uint32_t at, std::uint32_t end) {
      for (std::size_t i = 0; i < characters_ && at < end; ++i)
        at += code_point_at(pieces.text.data() + at).bytes;
      return at;
    });
  }

 private:
  std::size_t characters_;
};

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void apply(Pieces& pieces) const override {
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      const std::string_view text = pieces.text.substr(piece.begin, piece.end - piece.begin);
      edit.begin_piece();
      const bool has = text.starts_with(' ') || text.starts_with(replacement_);
      if (!has && (prepend_ == PrependScheme::always ||
                   (prepend_ == PrependScheme::first && pieces.span(piece.begin).begin == 0)))
        edit.replace(piece.begin, piece.begin, replacement_);
      std::uint32_t done = piece.begin;
      for (std::uint32_t at = piece.begin; at < piece.end; ++at) {
        if (pieces.text[at] != ' ') continue;
        edit.copy(done, at);
        edit.replace(at, at + 1, replacement_);
        done = at + 1;
      }
      edit.copy(done, piece.end);
      edit.end_piece();
    }
    edit.commit();
    if (split_) cut(pieces);
  }

 private:
  // Every replacement opens a piece, as merged_with_next does: of a run each but the last stands alone.
  void cut(Pieces& pieces) const {
    pieces.cut.clear();
    for (const Piece& piece : pieces.pieces) {
      std::uint32_t begin = piece.begin;
      for_each_literal(pieces.text, piece, replacement_, [&](std::uint32_t at, std::uint32_t) {
        if (at > begin) pieces.cut.push_back({begin, at});
        begin = at;
      });
      if (begin < piece.end) pieces.cut.push_back({begin, piece.end});
    }
    pieces.pieces.swap(pieces.cut);
  }

  std::string replacement_;
  PrependScheme prepend_;
  bool split_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_regex_split(std::unique_ptr<Regex> regex, SplitBehavior behavior,
                                               bool invert) {
  return make_splitter([regex = std::shared_ptr<Regex>(std::move(regex))](
                           std::string_view text, const Piece& piece,
                           const auto& found) { regex->for_each_match(text, piece.begin, piece.end, found); },
                       behavior, invert);
}

std::unique_ptr<PreTokenizer> make_literal_split(std::string literal, SplitBehavior behavior, bool invert) {
  return make_splitter(
      [literal = std::move(literal)](std::string_view text, const Piece& piece, const auto& found) {
        for_each_literal(text, piece, literal, found);
      },
      behavior, invert);
}

std::unique_ptr<PreTokenizer> make_class_split(const CharClasses& classes, std::uint8_t wanted,
                                               SplitBehavior behavior) {
  return make_splitter(
      [&classes, wanted](std::string_view text, const Piece& piece, const auto& found) {
        const TextCursor cursor(text.data(), classes);
        for (std::uint32_t at = piece.begin; at < piece.end;) {
          const std::uint32_t next = cursor.next(at);
          if (cursor.classes(at) & wanted) found(at, next);
          at = next;
        }
      },
      behavior, false);
}

std::unique_ptr<PreTokenizer> make_whitespace_splitter() { return std::make_unique<WhitespaceSplitter>(); }
std::unique_ptr<PreTokenizer> make_script_splitter() { return std::make_unique<ScriptSplitter>(); }
std::unique_ptr<PreTokenizer> make_fixed_length_splitter(std::size_t characters) {
  return std::make_unique<FixedLengthSplitter>(characters);
}
std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme prepend, bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), prepend, split);
}

}  // namespace sonde
