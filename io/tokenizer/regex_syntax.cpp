#include "io/tokenizer/regex_syntax.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>

#include "io/file_util.h"
#include "io/tokenizer/code_point_set.h"
#include "io/tokenizer/unicode_tables.h"
#include "io/tokenizer/utf8.h"
#include "runtime/error.h"

namespace sonde {
namespace {

struct ClassName {
  std::string_view name, long_name;
  std::uint32_t bits;  // of UnicodeClass
};
constexpr std::uint32_t kCased = kHfUpper | kHfLower | kHfTitle;
constexpr ClassName kClasses[] = {
    {"L", "Letter", kHfLetter},
    {"N", "Number", kHfNumber},
    {"M", "Mark", kHfMark},
    {"P", "Punctuation", kHfPunctuationCategory},
    {"S", "Symbol", kHfSymbol},
    {"Lu", "Uppercase_Letter", kHfUpper},
    {"Ll", "Lowercase_Letter", kHfLower},
    {"Lt", "Titlecase_Letter", kHfTitle},
    {"LC", "Cased_Letter", kCased},
    {"Lm", "Modifier_Letter", kHfModifier},
    {"Lo", "Other_Letter", kHfOtherLetter},
    {"Nd", "Decimal_Number", kHfDecimal},
    {"Nl", "Letter_Number", kHfLetterNumber},
    {"No", "Other_Number", kHfOtherNumber},
    {"Space", "White_Space", kHfSpace},
    {"Digit", "Digit", kHfDecimal},
    {"Word", "Word", kHfRegexWord},
};

CodePointSet class_of(std::uint32_t bits) {
  CodePointSet set;
  for (std::size_t i = 0; i < kUnicodeRunCount; ++i)
    if (kUnicodeRuns[i].classes & bits)
      set.add(kUnicodeRuns[i].first,
              i + 1 < kUnicodeRunCount ? kUnicodeRuns[i + 1].first - 1 : std::uint32_t{0x10FFFF});
  return set;
}

// Categories that no version of Unicode has changed since the libraries' oldest.
std::optional<CodePointSet> fixed_class(std::string_view name) {
  CodePointSet set;
  const bool is_z = name == "Z";
  if (name == "Cc") set.add(0, 0x1F), set.add(0x7F, 0x9F);
  if (name == "Zs" || is_z)
    set.add(0x20, 0x20), set.add(0xA0, 0xA0), set.add(0x1680, 0x1680), set.add(0x2000, 0x200A),
        set.add(0x202F, 0x202F), set.add(0x205F, 0x205F), set.add(0x3000, 0x3000);
  if (name == "Zl" || is_z) set.add(0x2028, 0x2028);
  if (name == "Zp" || is_z) set.add(0x2029, 0x2029);
  if (name == "ASCII") set.add(0, 0x7F);
  if (set.pcre2_class().empty()) return {};
  return set;
}

class Translation {
 public:
  Translation(const std::string& pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    if (valid_utf8_prefix(in_) < in_.size()) refuse("broken UTF-8");
    while (!at_end()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        emit(set());
      } else if (c == '(' && starts_with("(?")) {
        group();
      } else if (starts_with("{,")) {  // Oniguruma: from 0
        out_ += "{0,";
        at_ += 2;
      } else {
        out_ += in_[at_++];
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail_hint("token ids can be given in place of text: --ids",
              "{}: the pattern {} has {}, which is not supported", where_, printable(in_, 400), what);
  }
  bool at_end() const { return at_ >= in_.size(); }
  bool starts_with(std::string_view text) const {
    return std::string_view(in_).substr(at_).starts_with(text);
  }
  char peek(std::size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  void emit(const CodePointSet& set) {
    const std::string text = set.pcre2_class();
    out_ += text.empty() ? "(?!)" : "[" + text + "]";
  }

  // (?: (?= (?! (?<= (?<! (?> (?<name> as they are; of the flags, Oniguruma's m is everyone else's s.
  void group() {
    out_ += "(?";
    at_ += 2;
    if (std::string_view(":=!>").find(peek(0)) != std::string_view::npos && !at_end()) return;
    if (peek(0) == '<' && (peek(1) == '=' || peek(1) == '!')) {
      out_ += '<';
      ++at_;
      return;
    }
    for (; !at_end() && in_[at_] != ':' && in_[at_] != ')'; ++at_) {
      const char c = in_[at_];
      if (c == 'm')
        out_ += 's';
      else if (c == 'i' || c == 'x' || c == '-')
        out_ += c;
      else
        refuse(fmt::format("(?{}", printable(in_.substr(at_, 8))));
    }
  }

  void escape() {
    const char c = peek(1);
    if (std::optional<CodePointSet> known = class_escape()) return emit(*known);
    if (c == 'b' || c == 'B') {
      at_ += 2;
      const std::string w = "[" + class_of(kHfRegexWord).pcre2_class() + "]";
      out_ += c == 'b' ? "(?:(?<=" + w + ")(?!" + w + ")|(?<!" + w + ")(?=" + w + "))"
                       : "(?:(?<=" + w + ")(?=" + w + ")|(?<!" + w + ")(?!" + w + "))";
      return;
    }
    if (c == 'A' || c == 'z' || c == 'Z') {
      out_ += in_.substr(at_, 2);
      at_ += 2;
      return;
    }
    out_ += fmt::format("\\x{{{:X}}}", static_cast<std::uint32_t>(character_escape()));
  }

  // \p{..} \P{..} \s \S \d \D \w \W \h \H: the set, and at_ behind it.
  std::optional<CodePointSet> class_escape() {
    const char c = peek(1);
    if (c == 'p' || c == 'P') return property();
    const char lower = static_cast<char>(c | 0x20);
    CodePointSet set;
    if (lower == 's')
      set = class_of(kHfSpace);
    else if (lower == 'd')
      set = class_of(kHfDecimal);
    else if (lower == 'w')
      set = class_of(kHfRegexWord);
    else if (lower == 'h')  // hexadecimal digits
      set.add('0', '9'), set.add('a', 'f'), set.add('A', 'F');
    else
      return {};
    at_ += 2;
    return c == lower ? set : set.complement();
  }

  CodePointSet property() {
    bool negated = peek(1) == 'P';
    const std::size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string::npos) refuse("\\p without braces");
    std::string name = in_.substr(at_ + 3, close - at_ - 3);
    if (name.starts_with('^')) negated = !negated, name.erase(0, 1);
    std::optional<CodePointSet> set = fixed_class(name);
    for (const ClassName& known : kClasses)
      if (!set && (known.name == name || known.long_name == name)) set = class_of(known.bits);
    if (!set) refuse(fmt::format("\\p{{{}}}", printable(name)));
    at_ = close + 1;
    return negated ? set->complement() : *set;
  }

  // One character that is written with a backslash.
  char32_t character_escape() {
    const char c = peek(1);
    at_ += 2;
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'a':
        return '\a';
      case 'e':
        return 0x1B;
      case 'x':
        if (peek(0) == '{') {
          const std::size_t close = in_.find('}', at_);
          if (close == std::string::npos) refuse("\\x");
          const char32_t value = hex(at_ + 1, close);
          at_ = close + 1;
          return value;
        } else {
          const char32_t value = hex(at_, at_ + 2);
          if (value >= 0x80) refuse("\\x of a byte that is no character");
          at_ += 2;
          return value;
        }
      case 'u': {
        const char32_t value = hex(at_, at_ + 4);
        at_ += 4;
        return value;
      }
      default:
        break;
    }
    const bool has_meaning =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == 0;
    if (has_meaning) refuse(fmt::format("\\{}", printable(std::string_view(&c, 1))));
    const CodePoint literal = code_point_at(in_.data() + at_ - 1);
    at_ += literal.bytes - 1;
    return literal.value;
  }

  char32_t hex(std::size_t begin, std::size_t end) {
    const std::string digits = in_.substr(std::min(begin, in_.size()), end - begin);
    const bool is_hex = !digits.empty() && digits.size() == end - begin && digits.size() <= 6 &&
                        digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    const auto value = is_hex ? static_cast<char32_t>(std::stoul(digits, nullptr, 16)) : char32_t{0x110000};
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) refuse("a bad character number");
    return value;
  }

  // [...] with ranges, classes, sets within, and && (which binds loosest).
  CodePointSet set(int depth = 0) {
    if (depth > 16) refuse("sets within sets, more than 16 deep");
    ++at_;
    const bool negated = peek(0) == '^';
    if (negated) ++at_;
    CodePointSet all, part;
    bool has_all = false;
    for (bool first = true;; first = false) {
      if (at_end()) refuse("an open [");
      const char c = in_[at_];
      if (c == ']' && !first) break;
      if (starts_with("&&")) {
        all = has_all ? all.intersection(part) : part;
        has_all = true;
        part = {};
        at_ += 2;
      } else if (starts_with("[:")) {
        part.add(posix_class());
      } else if (c == '[') {
        part.add(set(depth + 1));
      } else if (c == '\\') {
        if (std::optional<CodePointSet> known = class_escape())
          part.add(*known);
        else
          range(set_character_escape(), part);
      } else {
        const CodePoint literal = code_point_at(in_.data() + at_);
        at_ += literal.bytes;
        range(literal.value, part);
      }
    }
    ++at_;
    if (has_all) part = all.intersection(part);
    return negated ? part.complement() : part;
  }

  char32_t set_character_escape() {
    if (peek(1) != 'b') return character_escape();
    at_ += 2;
    return '\b';
  }

  // `first`, or first-last when that is what follows.
  void range(char32_t first, CodePointSet& part) {
    char32_t last = first;
    if (peek(0) == '-' && peek(1) != ']' && peek(1) != '\0') {
      const std::size_t dash = at_++;
      if (in_[at_] == '[' ||
          (in_[at_] == '\\' && std::string_view("pPsSdDwWhH").find(peek(1)) != std::string_view::npos)) {
        at_ = dash + 1;  // the dash stands for itself
        part.add('-', '-');
      } else if (in_[at_] == '\\') {
        last = set_character_escape();
      } else {
        const CodePoint literal = code_point_at(in_.data() + at_);
        at_ += literal.bytes;
        last = literal.value;
      }
    }
    if (last < first) refuse("a range that runs backwards");
    part.add(first, last);
  }

  CodePointSet posix_class() {
    for (const auto& [name, bits] : {std::pair<std::string_view, std::uint32_t>{"space", kHfSpace},
                                     {"digit", kHfDecimal},
                                     {"word", kHfRegexWord}}) {
      if (!starts_with(fmt::format("[:{}:]", name))) continue;
      at_ += name.size() + 4;
      return class_of(bits);
    }
    refuse("a POSIX class");
  }

  const std::string& in_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
};

}  // namespace

std::string pcre2_pattern(const std::string& pattern, const std::string& where) {
  return Translation(pattern, where).run();
}

}  // namespace sonde
