// The steps of a tokenizer.json's decoder: each rewrites the list of tokens' texts, which are joined at the
// end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer/regex.h"

namespace sonde {

class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};
using DecodeSteps = std::vector<std::unique_ptr<DecodeStep>>;

std::unique_ptr<DecodeStep> make_byte_level_step();
std::unique_ptr<DecodeStep> make_replace_step(std::string literal, std::unique_ptr<Regex> regex,
                                              std::string content);
std::unique_ptr<DecodeStep> make_byte_fallback_step();  // runs of <0x00> to <0xFF> that are UTF-8 become it
std::unique_ptr<DecodeStep> make_fuse_step();
// Up to `start` times `character` from each token's front and `stop` times from its end.
std::unique_ptr<DecodeStep> make_strip_step(std::string character, std::size_t start, std::size_t stop);
std::unique_ptr<DecodeStep> make_metaspace_step(std::string replacement, bool drops_first);
std::unique_ptr<DecodeStep> make_word_piece_step(std::string prefix, bool cleanup);
std::unique_ptr<DecodeStep> make_suffix_step(std::string suffix);  // of word ends: spaces, but not at the end
std::unique_ptr<DecodeStep> make_ctc_step(std::string pad, std::string delimiter, bool cleanup);

}  // namespace sonde
