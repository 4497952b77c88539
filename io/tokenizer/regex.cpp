#include "io/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "io/file_util.h"
#include "io/tokenizer/unicode_tables.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::uint32_t kMatchLimit = 10'000'000;  // steps of one match

struct ClassName {
  std::string_view name;
  std::uint32_t hugging_face, llama_cpp;  // bits of UnicodeClass; 0: not known there
};
constexpr ClassName kClasses[] = {
    {"L", kHfLetter, kLlamaLetter},
    {"N", kHfNumber, kLlamaNumber},
    {"M", kHfMark, 0},
    {"P", kHfPunctuationCategory, 0},
    {"S", kHfSymbol, 0},
    {"Lu", kHfUpper, 0},
    {"Ll", kHfLower, 0},
    {"Lt", kHfTitle, 0},
    {"Lm", kHfModifier, 0},
    {"Lo", kHfOtherLetter, 0},
    {"Nd", kHfDecimal, 0},
    {"Nl", kHfLetterNumber, 0},
    {"No", kHfOtherNumber, 0},
};

// "\x{41}-\x{5A}..." of all characters with (or without) a class.
std::string ranges_of(std::uint32_t bits, bool negated) {
  std::string text;
  for (std::size_t i = 0; i < kUnicodeRunCount;) {
    const bool inside = ((kUnicodeRuns[i].classes & bits) != 0) != negated;
    std::size_t end = i + 1;
    while (end < kUnicodeRunCount && (((kUnicodeRuns[end].classes & bits) != 0) != negated) == inside) ++end;
    if (inside) {
      const std::uint32_t first = kUnicodeRuns[i].first;
      const std::uint32_t last = end < kUnicodeRunCount ? kUnicodeRuns[end].first - 1 : 0x10FFFF;
      // Surrogates are no characters: a range stops before them and goes on behind.
      if (first < 0xD800 && last > 0xDFFF)
        text += fmt::format("\\x{{{:X}}}-\\x{{D7FF}}\\x{{E000}}-\\x{{{:X}}}", first, last);
      else if (first < 0xD800 || first > 0xDFFF)
        text += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", first, last > 0xD7FF && last < 0xE000 ? 0xD7FF : last);
      else if (last > 0xDFFF)
        text += fmt::format("\\x{{E000}}-\\x{{{:X}}}", last);
    }
    i = end;
  }
  return text;
}

class Translation {
 public:
  Translation(const std::string& pattern, RegexDialect dialect, const std::string& where)
      : in_(pattern), dialect_(dialect), where_(where) {}

  std::string run() {
    bool in_set = false;
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape(in_set);
      } else if (c == '[' && in_set) {
        refuse(in_.substr(at_, 2) == "[:" ? "a POSIX class" : "a set in a set");
      } else {
        if (c == '[') {
          in_set = true;
          out_ += in_[at_++];
          if (at_ < in_.size() && in_[at_] == '^') out_ += in_[at_++];
          if (at_ < in_.size() && in_[at_] == ']') out_ += "\\]", ++at_;
          continue;
        }
        if (c == ']') in_set = false;
        if (in_set && in_.substr(at_, 2) == "&&") refuse("an intersection of sets");
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

  void add_class(std::uint32_t bits, bool negated, bool in_set) {
    if (bits == 0) refuse("a class that this reference library is not known for");
    out_ += in_set ? ranges_of(bits, negated) : "[" + ranges_of(bits, negated) + "]";
  }

  void escape(bool in_set) {
    const bool hf = dialect_ == RegexDialect::hugging_face;
    const char c = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    switch (c) {
      case 'p':
      case 'P':
        return property(c == 'P', in_set);
      case 's':
      case 'S':
        at_ += 2;
        return add_class(hf ? kHfSpace : kLlamaSpace, c == 'S', in_set);
      case 'd':
      case 'D':
        at_ += 2;
        return add_class(hf ? kHfDecimal : 0u, c == 'D', in_set);
      case 'w':
      case 'W':
        at_ += 2;
        return add_class(hf ? kHfRegexWord : 0u, c == 'W', in_set);
      default:
        break;
    }
    // Letters with a meaning of their own are passed on only where all engines agree on it.
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == '\0' || (is_letter && std::string_view("rntfvxuAbBz").find(c) == std::string_view::npos))
      refuse(fmt::format("\\{}", c));
    if (c == 'u') {  // \uHHHH
      const std::string hex = in_.substr(at_ + 2, 4);
      if (hex.size() != 4 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
        refuse("\\u");
      out_ += "\\x{" + hex + "}";
      at_ += 6;
      return;
    }
    if (c == 'v') {  // the vertical tab; PCRE2 has a class of that name
      out_ += "\\x{B}";
    } else {
      out_ += in_.substr(at_, 2);
    }
    at_ += 2;
  }

  void property(bool negated, bool in_set) {
    std::size_t end = at_ + 2;
    std::string name;
    if (end < in_.size() && in_[end] == '{') {
      const std::size_t close = in_.find('}', end);
      if (close == std::string::npos) refuse("an open \\p{");
      name = in_.substr(end + 1, close - end - 1);
      end = close + 1;
    } else {
      refuse("\\p without braces");
    }
    if (name.starts_with('^')) {
      negated = !negated;
      name.erase(0, 1);
    }
    for (const ClassName& known : kClasses)
      if (known.name == name) {
        at_ = end;
        return add_class(dialect_ == RegexDialect::hugging_face ? known.hugging_face : known.llama_cpp,
                         negated, in_set);
      }
    refuse(fmt::format("\\p{{{}}}", name));
  }

  const std::string& in_;
  RegexDialect dialect_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
};

struct MatchData {
  pcre2_match_data* data;
  pcre2_match_context* context;
  MatchData() : data(pcre2_match_data_create(16, nullptr)), context(pcre2_match_context_create(nullptr)) {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMatchLimit);
  }
  ~MatchData() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string pattern, where;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(const std::string& pattern, RegexDialect dialect, const std::string& where)
    : code_(std::make_unique<Code>()) {
  code_->pattern = pattern;
  code_->where = where;
  const std::string translated = Translation(pattern, dialect, where).run();
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_MULTILINE | PCRE2_DOLLAR_ENDONLY, &error,
                              &offset, nullptr);
  if (code_->code == nullptr) {
    PCRE2_UCHAR message[200];
    pcre2_get_error_message(error, message, sizeof(message));
    fail("{}: the pattern {}: {}", where, printable(pattern, 400), reinterpret_cast<const char*>(message));
  }
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is none, the interpreter serves
}

Regex::~Regex() = default;

void Regex::for_each_match(std::string_view text, std::uint32_t begin, std::uint32_t end,
                           const std::function<void(std::uint32_t, std::uint32_t)>& found) const {
  thread_local MatchData match;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() + begin);
  const std::size_t length = end - begin;
  for (std::size_t at = 0; at <= length;) {
    const int rc =
        pcre2_match(code_->code, subject, length, at, PCRE2_NO_UTF_CHECK, match.data, match.context);
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
      PCRE2_UCHAR message[200];
      pcre2_get_error_message(rc, message, sizeof(message));
      fail("{}: the pattern {} on a text of {} bytes: {}", code_->where, printable(code_->pattern, 400),
           length, reinterpret_cast<const char*>(message));
    }
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.data);
    if (span[1] > span[0]) {
      found(begin + static_cast<std::uint32_t>(span[0]), begin + static_cast<std::uint32_t>(span[1]));
      at = span[1];
    } else {  // an empty match is none here; look behind the next character
      at = span[1];
      if (at >= length) return;
      do ++at;
      while (at < length && (subject[at] & 0xC0) == 0x80);
    }
  }
}

}  // namespace sonde
