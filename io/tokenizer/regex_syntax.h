// Regular expressions of tokenizer files in the words of PCRE2.
#pragma once

#include <string>

namespace sonde {

// The same expression for PCRE2, every class an explicit range of the reference library's Unicode
// (Oniguruma's in Hugging Face's). What has no translation is an Error that starts with `where` and shows the
// pattern.
std::string pcre2_pattern(const std::string& pattern, const std::string& where);

}  // namespace sonde
