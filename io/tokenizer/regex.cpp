#include "io/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "io/file_util.h"
#include "io/tokenizer/regex_syntax.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::uint32_t kMatchLimit = 10'000'000;  // steps of one match
constexpr std::uint32_t kHeapLimit = 256 << 10;    // KiB
constexpr std::size_t kJitStack = 16 << 20;        // bytes, at most

// What one thread matches with.
struct Matcher {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(64 << 10, kJitStack, nullptr);
  Matcher() {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimit);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Matcher() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Matcher(const Matcher&) = delete;
};

std::string message_of(int code) {
  PCRE2_UCHAR message[200] = {};
  pcre2_get_error_message(code, message, sizeof(message));
  return reinterpret_cast<const char*>(message);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  Over over;
  std::string pattern, where;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(const std::string& pattern, Over over, const std::string& where)
    : code_(std::make_unique<Code>()) {
  code_->pattern = pattern;
  code_->where = where;
  code_->over = over;
  const bool is_text = over == Over::characters;
  const std::string translated = is_text ? pcre2_pattern(pattern, where) : pattern;
  // ^ and $ are those of lines in the reference's syntax.
  const std::uint32_t options =
      is_text ? PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY;
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options,
                              &error, &offset, nullptr);
  if (code_->code == nullptr)
    fail("{}: the pattern {}: {}", where, printable(pattern, 400), message_of(error));
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is none, the interpreter serves
}

Regex::~Regex() = default;

void Regex::for_each_match(std::string_view text, std::uint32_t begin, std::uint32_t end,
                           const std::function<void(std::uint32_t, std::uint32_t)>& found) const {
  thread_local Matcher matcher;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() + begin);
  const std::size_t length = end - begin;
  const bool is_text = code_->over == Over::characters;
  std::size_t last_end = SIZE_MAX;
  for (std::size_t at = 0; at <= length;) {
    const int rc = pcre2_match(code_->code, subject, length, at, is_text ? PCRE2_NO_UTF_CHECK : 0,
                               matcher.data, matcher.context);
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0)
      fail("{}: the pattern {} on a text of {} bytes: {}", code_->where, printable(code_->pattern, 400),
           length, message_of(rc));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(matcher.data);
    if (span[0] == span[1] && span[1] == last_end) {
      do ++at;
      while (is_text && at < length && (subject[at] & 0xC0) == 0x80);
      continue;
    }
    at = last_end = span[1];
    found(begin + static_cast<std::uint32_t>(span[0]), begin + static_cast<std::uint32_t>(span[1]));
  }
}

}  // namespace sonde
