#include "io/tokenizer/code_point_set.h"

#include <fmt/format.h>

#include <algorithm>

namespace sonde {

const std::vector<CodePointSet::Range>& CodePointSet::sorted() const {
  if (is_sorted_) return ranges_;
  std::ranges::sort(ranges_, {}, &Range::first);
  std::vector<Range> merged;
  for (const Range& range : ranges_) {
    if (!merged.empty() && range.first <= merged.back().last + 1)
      merged.back().last = std::max(merged.back().last, range.last);
    else
      merged.push_back(range);
  }
  ranges_ = std::move(merged);
  is_sorted_ = true;
  return ranges_;
}

CodePointSet CodePointSet::complement() const {
  CodePointSet result;
  std::uint32_t next = 0;
  for (const Range& range : sorted()) {
    if (range.first > next) result.add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= 0x10FFFF) result.add(next, 0x10FFFF);
  return result;
}

CodePointSet CodePointSet::intersection(const CodePointSet& other) const {
  CodePointSet outside = complement();
  outside.add(other.complement());
  return outside.complement();
}

std::string CodePointSet::pcre2_class() const {
  std::string text;
  const auto put = [&](std::uint32_t first, std::uint32_t last) {
    if (first <= last) text += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", first, last);
  };
  for (const Range& range : sorted()) {
    if (range.last < 0xD800 || range.first > 0xDFFF) {
      put(range.first, range.last);
    } else {
      if (range.first < 0xD800) put(range.first, 0xD7FF);
      put(0xE000, range.last);
    }
  }
  return text;
}

}  // namespace sonde
