// Unicode normal forms (UAX #15) and lower case as the reference library has them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sonde {

enum class NormalForm : std::uint8_t { nfc, nfd, nfkc, nfkd };

// A letter of the result with the letters [begin, end) of the source that it stands for.
struct NormalLetter {
  char32_t c;
  std::uint32_t begin, end;
};

// The source's code points to their normal form.
void normalise(NormalForm form, const std::vector<char32_t>& source, std::vector<NormalLetter>& result);

// Whether a character may change, or change what is around it; false for all of ASCII.
bool may_change(NormalForm form, char32_t c);

// Lower case of one character alone: one or two letters.
std::vector<char32_t> lower_case(char32_t c);

}  // namespace sonde
