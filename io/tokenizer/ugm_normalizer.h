// What llama.cpp does to a text before its Unigram model (tokenizer.ggml.model t5) cuts it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer/normalizer.h"

namespace sonde {

struct UgmNormalizerSpec {
  std::optional<CharsMap> chars_map;      // rules, the longest first
  std::vector<std::string> user_defined;  // tokens that no rule changes
  bool space_prefix = false;
  bool merge_spaces = false;  // a run of spaces is one, and none ends the text
};

// Spaces become U+2581.
std::unique_ptr<PreTokenizer> make_ugm_normalizer(UgmNormalizerSpec spec);

}  // namespace sonde
