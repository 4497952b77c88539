// Sets of code points as sorted ranges, for regular expressions whose classes are not the engine's own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sonde {

class CodePointSet {
 public:
  struct Range {
    std::uint32_t first, last;
  };
  void add(std::uint32_t first, std::uint32_t last) { ranges_.push_back({first, last}), is_sorted_ = false; }
  void add(const CodePointSet& other) {
    ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
    is_sorted_ = false;
  }
  CodePointSet complement() const;  // within 0 to U+10FFFF
  CodePointSet intersection(const CodePointSet& other) const;
  // The text between [ and ] of a PCRE2 class; empty for the empty set. Surrogates are left out: they are no
  // characters.
  std::string pcre2_class() const;

 private:
  const std::vector<Range>& sorted() const;  // disjoint
  mutable std::vector<Range> ranges_;
  mutable bool is_sorted_ = true;
};

}  // namespace sonde
