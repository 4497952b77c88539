// Generated tables behind normal_forms.h (tools/make_normal_form_tables.py).
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde {

// One step: c becomes pool[first .. first + length). Hangul syllables follow by rule.
struct Decomposition {
  char32_t c;
  std::uint16_t first;
  std::uint8_t length;
  std::uint8_t flags;  // 1: of compatibility; 2: the two letters compose to c again
};
extern const Decomposition kDecompositions[];
extern const std::size_t kDecompositionsCount;
extern const char32_t kDecompositionPool[];
extern const std::size_t kDecompositionPoolCount;

// The canonical combining class from `first` to the next run; 0 before the first one.
struct CombiningRun {
  char32_t first;
  std::uint8_t value;
};
extern const CombiningRun kCombiningRuns[];
extern const std::size_t kCombiningRunsCount;

struct LowerCase {
  char32_t c, first, second;  // second: 0 for most
};
extern const LowerCase kLowerCases[];
extern const std::size_t kLowerCasesCount;

}  // namespace sonde
