#include "io/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>
#include <time.h>

#include <algorithm>

#include "io/file_util.h"
#include "io/tokenizer/regex_syntax.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::uint32_t kMatchLimit = 10'000'000;  // steps from one start, at most
constexpr std::uint32_t kStepsPerByte = 1000;      // of what the match may look at
constexpr std::uint32_t kHeapLimit = 256 << 10;    // KiB
constexpr std::size_t kJitStack = 16 << 20;        // bytes, at most
constexpr std::size_t kWindow = 1024;              // bytes a match looks ahead before it asks for more
// CPU time of one stretch: PCRE2 counts no steps over its starts. Tokenizers need a hundredth of it.
constexpr double kSeconds = 1, kSecondsPerByte = 2e-5;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// What one thread matches with.
struct Matcher {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(64 << 10, kJitStack, nullptr);
  Matcher() {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_heap_limit(context, kHeapLimit);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Matcher() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Matcher(const Matcher&) = delete;

  int match(const pcre2_code* code, std::string_view subject, std::size_t at, std::uint32_t options) {
    const std::uint64_t steps = (subject.size() - at + 100) * kStepsPerByte;
    pcre2_set_match_limit(context, static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, kMatchLimit)));
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), at, options, data,
                       context);
  }
  PCRE2_SIZE* span() { return pcre2_get_ovector_pointer(data); }
};

bool is_inside_character(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

Matcher& matcher() {
  thread_local Matcher of_thread;
  return of_thread;
}

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
  // Where there is no JIT, the interpreter serves.
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
}

Regex::~Regex() = default;

// The next match at or behind `at`, as in the whole text, but looking ahead no farther than needed: a search
// that reaches the end of its window without an answer goes on where it stood, with twice the window. Between
// windows the time is looked at.
int Regex::search(std::string_view text, std::size_t at, double deadline) const {
  const bool is_text = code_->over == Over::characters;
  const std::uint32_t options = is_text ? PCRE2_NO_UTF_CHECK : 0;
  for (std::size_t window = kWindow;;) {
    std::size_t end = text.size() - at > window ? at + window : text.size();
    while (is_text && is_inside_character(text, end)) ++end;
    if (end == text.size()) return matcher().match(code_->code, text, at, options);
    const int rc = matcher().match(code_->code, text.substr(0, end), at, options | PCRE2_PARTIAL_HARD);
    if (rc == PCRE2_ERROR_NOMATCH) {
      at = end;
      window = kWindow;
    } else if (rc == PCRE2_ERROR_PARTIAL) {
      at = matcher().span()[0];
      window = 2 * std::max(kWindow, end - at);
      if (thread_seconds() > deadline) return PCRE2_ERROR_MATCHLIMIT;
    } else {
      return rc;
    }
  }
}

void Regex::for_each_match(std::string_view whole, std::uint32_t begin, std::uint32_t end,
                           const std::function<void(std::uint32_t, std::uint32_t)>& found) const {
  const std::string_view text = whole.substr(begin, end - begin);
  const double allowed = kSeconds + kSecondsPerByte * static_cast<double>(text.size());
  const double deadline = text.size() > kWindow ? thread_seconds() + allowed : 0;
  std::size_t last_end = SIZE_MAX;
  for (std::size_t at = 0; at <= text.size();) {
    const int rc = search(text, at, deadline);
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0)
      fail("{}: the pattern {} on a text of {} bytes: {}", code_->where, printable(code_->pattern, 400),
           text.size(), message_of(rc));
    const PCRE2_SIZE* span = matcher().span();
    if (span[0] == span[1] && span[1] == last_end) {
      do ++at;
      while (code_->over == Over::characters && is_inside_character(text, at));
      continue;
    }
    at = last_end = span[1];
    found(begin + static_cast<std::uint32_t>(span[0]), begin + static_cast<std::uint32_t>(span[1]));
  }
}

}  // namespace sonde
