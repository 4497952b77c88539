#include "models/noise.h"

#include <charconv>
#include <random>

#include "runtime/error.h"

namespace sonde {
namespace {

bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

TextNoise TextNoise::parse(std::string_view text) {
  TextNoise noise;
  noise.name_ = text;
  if (text == "none") return noise;
  if (text == "prefix") return noise.kind_ = Kind::prefix, noise;
  if (text.starts_with("charswap:")) {
    const std::string_view digits = text.substr(9);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), noise.probability_);
    if (error == std::errc{} && end == digits.data() + digits.size() && noise.probability_ >= 0 &&
        noise.probability_ <= 1)
      return noise.kind_ = Kind::charswap, noise;
  }
  throw UsageError(
      fmt::format("--noise: found '{}', expected none, prefix or charswap:P with P from 0 to 1", text));
}

void TextNoise::apply(std::vector<std::string>& texts, std::uint32_t seed) const {
  if (kind_ == Kind::none) return;
  std::mt19937 generator(seed);
  for (std::string& text : texts) {
    if (kind_ == Kind::prefix) {
      text.insert(0, (generator() & 1u) == 0 ? "aaa" : "bbb");
      continue;
    }
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
      if (!is_letter(static_cast<unsigned char>(text[i])) ||
          !is_letter(static_cast<unsigned char>(text[i + 1])))
        continue;
      if (static_cast<double>(generator()) * 0x1p-32 >= probability_) continue;
      std::swap(text[i], text[i + 1]);
      ++i;
    }
  }
}

}  // namespace sonde
