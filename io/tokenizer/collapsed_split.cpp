#include <algorithm>
#include <array>
#include <string_view>

#include "io/tokenizer/llama_splitters.h"
#include "io/tokenizer/regex.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {
namespace {

// The byte of a character outside ASCII, and what \p{..} of a pattern stands for inside a set.
struct Category {
  std::uint8_t char_class;
  char byte;
  std::string_view letter, set;
};
constexpr std::array<Category, 5> kCategories = {{
    {kNumber, '\xD1', "N", R"(\xD10-9)"},
    {kLetter, '\xD2', "L", R"(\xD2A-Za-z)"},
    {kPunct, '\xD3', "P", R"(\xD3!-#%-*,-/:-;?-@\[-\]_\{\})"},
    {kMark, '\xD4', "M", R"(\xD4)"},
    {kSymbol, '\xD5', "S", R"(\xD5$+<->^`|~)"},
}};
constexpr char kOther = '\xD0', kOtherSpace = '\v';

char collapsed(std::uint8_t classes) {
  if (classes & kSpace) return kOtherSpace;
  for (const Category& category : kCategories)
    if (classes & category.char_class) return category.byte;
  return kOther;
}

// Lu, Ll and so on are letters of any case.
std::string expand(const std::string& pattern) {
  std::string out;
  bool in_set = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '\\' && pattern.compare(at, 3, "\\p{") == 0) {
      const auto category = std::ranges::find_if(
          kCategories, [&](const Category& k) { return k.letter[0] == pattern[at + 3]; });
      out += in_set ? std::string(category->set) : "[" + std::string(category->set) + "]";
      at = pattern.find('}', at);
      continue;
    }
    if (c == '\\') {
      out += c;
      out += pattern[++at];
      continue;
    }
    if (c == '[') in_set = true;
    if (c == ']') in_set = false;
    out += c;
  }
  return out;
}

class CollapsedSplit final : public PreTokenizer {
 public:
  explicit CollapsedSplit(const std::string& pattern)
      : regex_(expand(pattern), Regex::Over::bytes, "a pattern of llama.cpp") {}

  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), CharClasses::llama_cpp());
    pieces.cut.clear();
    std::string line;
    std::vector<std::uint32_t> starts;  // of each character of the piece, and its end
    for (const Piece& piece : pieces.pieces) {
      line.clear();
      starts.clear();
      for (std::uint32_t at = piece.begin; at < piece.end; at = text.next(at)) {
        starts.push_back(at);
        line.push_back(text.byte(at) & 0x80 ? collapsed(text.classes(at)) : text.byte(at));
      }
      starts.push_back(piece.end);
      std::uint32_t done = 0;
      const auto add = [&](std::uint32_t begin, std::uint32_t end) {
        if (begin < end) pieces.cut.push_back({starts[begin], starts[end]});
      };
      const auto size = static_cast<std::uint32_t>(line.size());
      regex_.for_each_match(line, 0, size, [&](std::uint32_t begin, std::uint32_t end) {
        add(done, begin);
        add(begin, end);
        done = end;
      });
      add(done, size);
    }
    pieces.pieces.swap(pieces.cut);
  }

 private:
  Regex regex_;
};

class ThousandsSplitter final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    const TextCursor text(pieces.text.data(), CharClasses::llama_cpp());
    pieces.cut.clear();
    for (const Piece& piece : pieces.pieces) {
      std::uint32_t done = piece.begin;
      for (std::uint32_t at = piece.begin; at < piece.end;) {
        if (!(text.classes(at) & kNumber)) {
          at = text.next(at);
          continue;
        }
        const std::uint32_t end = text.run_of(kNumber, at, piece.end);
        std::size_t left = 0;  // digits from `at` to `end`
        for (std::uint32_t i = at; i < end; i = text.next(i)) ++left;
        while (at < end) {
          at = text.next(at);
          if (--left % 3 != 0) continue;
          pieces.cut.push_back({done, at});
          done = at;
        }
      }
      if (done < piece.end) pieces.cut.push_back({done, piece.end});
    }
    pieces.pieces.swap(pieces.cut);
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_collapsed_split(const std::string& pattern) {
  return std::make_unique<CollapsedSplit>(pattern);
}
std::unique_ptr<PreTokenizer> make_thousands_splitter() { return std::make_unique<ThousandsSplitter>(); }

}  // namespace sonde
