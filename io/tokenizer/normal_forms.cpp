#include "io/tokenizer/normal_forms.h"

#include <algorithm>
#include <unordered_map>

#include "io/tokenizer/normal_form_tables.h"

namespace sonde {
namespace {

// Hangul syllables (UAX #15, section 16): 19 leads x 21 vowels x 28 tails.
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kVowelCount = 21, kTailCount = 28, kSyllableCount = 19 * kVowelCount * kTailCount;

bool is_syllable(char32_t c) { return c >= kSyllables && c < kSyllables + kSyllableCount; }

struct Tables {
  std::unordered_map<char32_t, const Decomposition*> steps;
  std::unordered_map<std::uint64_t, char32_t> compositions;

  Tables() {
    for (std::size_t i = 0; i < kDecompositionsCount; ++i) {
      const Decomposition& d = kDecompositions[i];
      steps.emplace(d.c, &d);
      if (d.flags & 2)
        compositions.emplace(key(kDecompositionPool[d.first], kDecompositionPool[d.first + 1]), d.c);
    }
  }
  static std::uint64_t key(char32_t a, char32_t b) { return std::uint64_t{a} << 32 | b; }
};

const Tables& tables() {
  static const Tables tables;
  return tables;
}

std::uint8_t combining_class(char32_t c) {
  if (c < kCombiningRuns[0].first) return 0;
  const auto* end = kCombiningRuns + kCombiningRunsCount;
  const auto* after = std::upper_bound(kCombiningRuns, end, c,
                                       [](char32_t x, const CombiningRun& run) { return x < run.first; });
  return after[-1].value;
}

bool is_compatible(NormalForm form) { return form == NormalForm::nfkc || form == NormalForm::nfkd; }
bool composes(NormalForm form) { return form == NormalForm::nfc || form == NormalForm::nfkc; }

void decompose(char32_t c, bool compatible, const NormalLetter& where, std::vector<NormalLetter>& result) {
  const auto emit = [&](char32_t letter) { result.push_back({letter, where.begin, where.end}); };
  if (is_syllable(c)) {
    const char32_t s = c - kSyllables, tail = s % kTailCount;
    emit(kLeads + s / (kVowelCount * kTailCount));
    emit(kVowels + s % (kVowelCount * kTailCount) / kTailCount);
    if (tail != 0) emit(kTails + tail);
    return;
  }
  const auto found = c < 0xA0 ? tables().steps.end() : tables().steps.find(c);
  if (found == tables().steps.end() || (!compatible && (found->second->flags & 1))) return emit(c);
  for (int i = 0; i < found->second->length; ++i)
    decompose(kDecompositionPool[found->second->first + i], compatible, where, result);
}

char32_t composed(char32_t a, char32_t b) {
  if (a >= kLeads && a < kLeads + 19 && b >= kVowels && b < kVowels + kVowelCount)
    return kSyllables + ((a - kLeads) * kVowelCount + (b - kVowels)) * kTailCount;
  if (is_syllable(a) && (a - kSyllables) % kTailCount == 0 && b > kTails && b < kTails + kTailCount)
    return a + (b - kTails);
  const auto found = tables().compositions.find(Tables::key(a, b));
  return found == tables().compositions.end() ? 0 : found->second;
}

// A letter joins the last starter unless a letter of its class or higher stands between.
void compose(std::vector<NormalLetter>& letters) {
  std::size_t out = 0, starter = 0;
  bool has_starter = false;
  int last_class = -1;  // of the letter written last behind the starter
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const NormalLetter letter = letters[i];
    const int ccc = combining_class(letter.c);
    if (has_starter && last_class < ccc) {
      if (const char32_t joined = composed(letters[starter].c, letter.c)) {
        letters[starter].c = joined;
        letters[starter].end = std::max(letters[starter].end, letter.end);
        continue;
      }
    }
    if (ccc == 0) {
      starter = out;
      has_starter = true;
      last_class = -1;
    } else {
      last_class = ccc;
    }
    letters[out++] = letter;
  }
  letters.resize(out);
}

}  // namespace

void normalise(NormalForm form, const std::vector<char32_t>& source, std::vector<NormalLetter>& result) {
  result.clear();
  for (std::uint32_t i = 0; i < source.size(); ++i)
    decompose(source[i], is_compatible(form), {0, i, i + 1}, result);
  // Runs of letters with a class are sorted by it, stably. Those of a run that changes order stand for all of
  // it, so that what a letter stands for never goes back.
  for (std::size_t i = 0; i < result.size();) {
    std::size_t end = i;
    while (end < result.size() && combining_class(result[end].c) != 0) ++end;
    const auto in_order = [](const NormalLetter& x, const NormalLetter& y) {
      return combining_class(x.c) < combining_class(y.c);
    };
    const auto first = result.begin() + static_cast<std::ptrdiff_t>(i);
    const auto last = result.begin() + static_cast<std::ptrdiff_t>(end);
    if (!std::is_sorted(first, last, in_order)) {
      const std::uint32_t run_begin = first->begin, run_end = last[-1].end;
      std::stable_sort(first, last, in_order);
      std::for_each(first, last,
                    [&](NormalLetter& letter) { letter.begin = run_begin, letter.end = run_end; });
    }
    i = std::max(end, i + 1);
  }
  if (composes(form)) compose(result);
}

bool may_change(NormalForm form, char32_t c) {
  if (c < (is_compatible(form) ? 0xA0 : 0xC0)) return false;
  if (!composes(form)) return true;
  return c >= 0x300 || (is_compatible(form) && tables().steps.count(c) > 0);
}

std::vector<char32_t> lower_case(char32_t c) {
  const auto* end = kLowerCases + kLowerCasesCount;
  const auto* found =
      std::lower_bound(kLowerCases, end, c, [](const LowerCase& row, char32_t x) { return row.c < x; });
  if (found == end || found->c != c) return {c};
  return found->second == 0 ? std::vector<char32_t>{found->first}
                            : std::vector<char32_t>{found->first, found->second};
}

}  // namespace sonde
