// SentencePiece's compiled normalisation rules (a Darts double array, https://github.com/s-yata/darts-clone):
// a unit holds the byte that leads to it, the offset to its children, and whether a rule ends there; the
// value of a rule is the place of its replacement.
#include <cstring>

#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/text_edit.h"
#include "runtime/error.h"

namespace sonde {
namespace {

std::uint32_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
bool ends_rule(std::uint32_t unit) { return ((unit >> 8) & 1) != 0; }
std::uint32_t label_of(std::uint32_t unit) { return unit & ((1u << 31) | 0xFF); }

// Marks that do not join what is before them although their category is one (GraphemeBreakProperty.txt).
bool is_other_mark(char32_t c) {
  return c == 0x102B || c == 0x102C || c == 0x1038 || (c >= 0x1062 && c <= 0x1064) ||
         (c >= 0x1067 && c <= 0x106D) || c == 0x1083 || (c >= 0x1087 && c <= 0x108C) || c == 0x108F ||
         (c >= 0x109A && c <= 0x109C) || c == 0x1A61 || c == 0x1A63 || c == 0x1A64 || c == 0xAA7B ||
         c == 0xAA7D || c == 0x11720 || c == 0x11721;
}
bool joins_before(char32_t c) {
  if (c < 0x300) return false;
  if ((CharClasses::hugging_face().of(c) & kMark) && !is_other_mark(c)) return true;
  return c == 0x200C || c == 0x200D || c == 0xFF9E || c == 0xFF9F || c == 0x0E33 || c == 0x0EB3 ||
         (c >= 0x1F3FB && c <= 0x1F3FF) || (c >= 0xE0020 && c <= 0xE007F);
}
bool joins_behind(char32_t c) {  // Prepend
  return (c >= 0x600 && c <= 0x605) || c == 0x6DD || c == 0x70F || c == 0x890 || c == 0x891 || c == 0x8E2 ||
         c == 0xD4E || c == 0x110BD || c == 0x110CD;
}
bool stands_alone(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x61C || c == 0x180E || c == 0x200B ||
         c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) ||
         c == 0xFEFF || (c >= 0xFFF0 && c <= 0xFFFB);
}

// Where the grapheme cluster at `at` ends, as far as clusters of fewer than six bytes go: longer ones are
// taken character by character anyway.
std::uint32_t cluster_end(std::string_view text, std::uint32_t at, std::uint32_t end) {
  CodePoint c = code_point_at(text.data() + at);
  std::uint32_t next = at + c.bytes;
  if (c.value == '\r' && next < end && text[next] == '\n') return next + 1;
  if (stands_alone(c.value)) return next;
  while (next < end && joins_behind(c.value)) {
    const CodePoint after = code_point_at(text.data() + next);
    if (stands_alone(after.value)) return next;
    c = after;
    next += c.bytes;
  }
  while (next < end) {
    const CodePoint after = code_point_at(text.data() + next);
    if (!joins_before(after.value)) break;
    next += after.bytes;
  }
  return next;
}

// A whole cluster of fewer than six bytes by its first rule, else each character by its own. What is removed
// at the start belongs to the first character that stays, as in the library, where this decides whether a
// piece begins the text.
class Precompiled final : public PreTokenizer {
 public:
  explicit Precompiled(CharsMap map) : map_(std::move(map)) {}

  void apply(Pieces& pieces) const override {
    TextEdit edit(pieces);
    std::uint32_t start = 0;
    const auto replaced = [&](std::uint32_t begin, std::uint32_t end) {
      std::string_view replacement;
      std::size_t matched = 0;
      if (!map_.find(pieces.text.substr(begin, end - begin), CharsMap::Which::first, replacement, matched))
        return false;
      edit.replace(edit.is_piece_empty() ? start : begin, end, replacement);
      return true;
    };
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      start = piece.begin;
      for (std::uint32_t at = piece.begin; at < piece.end;) {
        const std::uint32_t end = cluster_end(pieces.text, at, piece.end);
        if (end - at < 6 && replaced(at, end)) {
          at = end;
          continue;
        }
        while (at < end) {
          const std::uint32_t next = at + code_point_at(pieces.text.data() + at).bytes;
          if (!replaced(at, next)) {
            if (edit.is_piece_empty() && start < at)
              edit.replace(start, next, pieces.text.substr(at, next - at));
            else
              edit.copy(at, next);
          }
          at = next;
        }
      }
      edit.end_piece();
    }
    edit.commit();
  }

 private:
  CharsMap map_;
};

}  // namespace

CharsMap::CharsMap(const std::string& bytes, const std::string& file, const std::string& key) {
  std::uint32_t size = 0;
  if (bytes.size() >= 4) std::memcpy(&size, bytes.data(), 4);
  if (bytes.size() < 4 || size % 4 != 0 || size > bytes.size() - 4 || size == 0)
    fail("{}: key {}: found {} bytes that name a table of {}, expected a table inside", file, key,
         bytes.size(), size);
  units_.resize(size / 4);
  std::memcpy(units_.data(), bytes.data() + 4, size);
  replacements_ = bytes.substr(4 + size);
  if (replacements_.empty() || replacements_.back() != '\0')
    fail("{}: key {}: the replacements do not end with NUL", file, key);
}

bool CharsMap::find(std::string_view text, Which which, std::string_view& replacement,
                    std::size_t& matched) const {
  std::size_t node = offset_of(units_[0]);
  bool found = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const std::uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!ends_rule(unit)) continue;
    if (node >= units_.size()) break;
    const std::uint32_t place = units_[node] & 0x7FFFFFFF;
    if (place >= replacements_.size()) break;
    replacement = replacements_.c_str() + place;
    matched = i + 1;
    found = true;
    if (which == Which::first) break;
  }
  return found;
}

std::unique_ptr<PreTokenizer> make_precompiled(CharsMap map) {
  return std::make_unique<Precompiled>(std::move(map));
}

}  // namespace sonde
