#include "io/tokenizer/unicode.h"

#include <map>
#include <string>

namespace sonde {

template <std::size_t n>
CharClasses::CharClasses(const Bit (&bits)[n]) {
  std::map<std::string, std::uint32_t> known;  // block bytes -> index
  std::string block;
  std::size_t run = 0;
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    if (run + 1 < kUnicodeRunCount && kUnicodeRuns[run + 1].first == c) ++run;
    std::uint8_t classes = 0;
    for (const Bit& bit : bits)
      if (kUnicodeRuns[run].classes & bit.from) classes |= bit.to;
    block.push_back(static_cast<char>(classes));
    if (block.size() < 128) continue;
    const auto [it, is_new] = known.emplace(block, static_cast<std::uint32_t>(blocks_.size()));
    if (is_new) blocks_.insert(blocks_.end(), block.begin(), block.end());
    block_of_[c >> 7] = it->second;
    block.clear();
  }
}

const CharClasses& CharClasses::hugging_face() {
  static constexpr Bit kBits[] = {{kHfLetter, kLetter}, {kHfNumber, kNumber}, {kHfSpace, kSpace},
                                  {kHfDigit, kDigit},   {kHfWord, kWord},     {kHfPunctuation, kPunct},
                                  {kHfMark, kMark},     {kHfAccent, kAccent}};
  static const CharClasses classes(kBits);
  return classes;
}

const CharClasses& CharClasses::hugging_face_cases() {
  static constexpr Bit kBits[] = {{kHfLetter, kLetter},    {kHfNumber, kNumber},       {kHfSpace, kSpace},
                                  {kHfUpper, kUpper},      {kHfTitle, kUpper},         {kHfLower, kLower},
                                  {kHfModifier, kUncased}, {kHfOtherLetter, kUncased}, {kHfMark, kUncased}};
  static const CharClasses classes(kBits);
  return classes;
}

const CharClasses& CharClasses::llama_cpp() {
  static constexpr Bit kBits[] = {{kLlamaLetter, kLetter}, {kLlamaNumber, kNumber},     {kLlamaSpace, kSpace},
                                  {kLlamaNumber, kDigit},  {kLlamaPunctuation, kPunct}, {kLlamaMark, kMark},
                                  {kLlamaSymbol, kSymbol}};
  static const CharClasses classes(kBits);
  return classes;
}

}  // namespace sonde
