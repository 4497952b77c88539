// Regular expressions as tokenizer files write them, run by PCRE2 with the reference library's classes:
// \p{..}, \s, \d and \w become explicit ranges, since every engine knows another version of Unicode.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace sonde {

enum class RegexDialect : std::uint8_t { hugging_face, llama_cpp };

class Regex {
 public:
  // What the translation does not know, and what PCRE2 refuses, is an Error that starts with `where`.
  Regex(const std::string& pattern, RegexDialect dialect, const std::string& where);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls found(begin, end) for the matches in text[begin, end), left to right. The stretch is a text of its
  // own: nothing outside is looked at. A match that takes too many steps is an Error. Thread-safe.
  void for_each_match(std::string_view text, std::uint32_t begin, std::uint32_t end,
                      const std::function<void(std::uint32_t, std::uint32_t)>& found) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace sonde
