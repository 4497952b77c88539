// Errors a user can act on: what was found, what was expected, and a HINT. Everything throws; run_main
// prints.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace sonde {

// A failure with a one-line message and an optional HINT (what to do about it). Exit code 1.
class Error : public std::runtime_error {
 public:
  explicit Error(std::string message, std::string hint = {})
      : std::runtime_error(std::move(message)), hint_(std::move(hint)) {}
  const std::string& hint() const { return hint_; }

 private:
  std::string hint_;
};

// The command line cannot be understood. Exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// throw Error(fmt::format(...)): fail("{}: key {}: found {}, expected {}", file, key, found, expected)
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// The same with a HINT, which comes first so that the arguments of the message can follow it.
template <class... Args>
[[noreturn]] void fail_hint(std::string hint, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...), std::move(hint));
}

// Our own mistake, not the user's: names the source line. `check` is never compiled out.
[[noreturn]] void fail_check(const char* expression, const std::string& message, const char* file, int line);

}  // namespace sonde

// An invariant of the code (shape agreement, call order). sonde_check(n == 3, "n is {}", n).
#define sonde_check(condition, ...)                                                                  \
  do {                                                                                               \
    if (!(condition)) ::sonde::fail_check(#condition, fmt::format(__VA_ARGS__), __FILE__, __LINE__); \
  } while (false)
