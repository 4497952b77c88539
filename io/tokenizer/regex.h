// Regular expressions as tokenizer files write them, run by PCRE2.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace sonde {

class Regex {
 public:
  // characters: UTF-8 text, as Hugging Face's library reads the pattern (regex_syntax.h). bytes: PCRE2's own
  // syntax on bytes. An expression that cannot be had is an Error that starts with `where`.
  enum class Over : std::uint8_t { characters, bytes };
  Regex(const std::string& pattern, Over over, const std::string& where);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls found(begin, end) for the matches in text[begin, end), left to right; an empty match counts, but
  // not where the one before ended. The stretch is a text of its own: nothing outside is looked at. A match
  // that takes too many steps, or a stretch that takes too long for its size, is an Error. Thread-safe.
  void for_each_match(std::string_view text, std::uint32_t begin, std::uint32_t end,
                      const std::function<void(std::uint32_t, std::uint32_t)>& found) const;

 private:
  int search(std::string_view text, std::size_t at, double deadline) const;
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace sonde
