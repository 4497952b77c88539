// Cutting by a pattern, with every way of what becomes of the matches.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/regex.h"

namespace sonde {

enum class SplitBehavior : std::uint8_t {
  removed,
  isolated,
  merged_with_previous,
  merged_with_next,
  contiguous
};

// Inverted: what lies between the matches counts as the matches.
std::unique_ptr<PreTokenizer> make_regex_split(std::unique_ptr<Regex> regex, SplitBehavior behavior,
                                               bool invert);
std::unique_ptr<PreTokenizer> make_literal_split(std::string literal, SplitBehavior behavior, bool invert);
// Every character of the classes (bits of CharClass) is a match.
std::unique_ptr<PreTokenizer> make_class_split(const CharClasses& classes, std::uint8_t wanted,
                                               SplitBehavior behavior);
// Words and runs of other characters that are no spaces: \w+|[^\w\s]+
std::unique_ptr<PreTokenizer> make_whitespace_splitter();
std::unique_ptr<PreTokenizer> make_script_splitter();
std::unique_ptr<PreTokenizer> make_fixed_length_splitter(std::size_t characters);

// Spaces become `replacement`, one is put in front of a piece that has none, and with `split` every one opens
// a piece.
enum class PrependScheme : std::uint8_t { always, first, never };
std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme prepend, bool split);

}  // namespace sonde
