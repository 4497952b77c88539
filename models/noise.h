// Noise on texts, for the ablations of `sonde depth --noise`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

// none | prefix | charswap:P
// prefix: aaa or bbb glued to the front of text i, drawn as numpy's RandomState(seed).randint(0, 2) draws it.
// charswap:P: from left to right, two neighbouring letters change places with probability P and are then
// passed over.
class TextNoise {
 public:
  static TextNoise parse(std::string_view text);  // UsageError lists the forms
  const std::string& name() const { return name_; }
  bool none() const { return kind_ == Kind::none; }
  void apply(std::vector<std::string>& texts, std::uint32_t seed) const;

 private:
  enum class Kind { none, prefix, charswap };
  Kind kind_ = Kind::none;
  double probability_ = 0;
  std::string name_ = "none";
};

}  // namespace sonde
