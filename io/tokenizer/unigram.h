// Unigram: the cut of a piece into tokens with the highest sum of scores.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer/model.h"
#include "io/tokenizer/token_trie.h"
#include "io/tokenizer/vocabulary.h"

namespace sonde {

struct UnigramSpec {
  TokenTrie trie;
  std::vector<double> scores;  // of each id
  // A character that is no token by itself may be unknown. Successive unknowns are one; Hugging Face's
  // library then looks their text up in the vocabulary, and falls back to its bytes if all have tokens.
  double unknown_score = 0;
  std::int32_t unknown_id = -1;  // -1: a text that needs it is an Error
  TokenIndex vocabulary;         // empty: unknowns are not looked up
  bool byte_fallback = false;
  std::array<std::int32_t, 256> byte_tokens;  // <0x00> to <0xFF>, -1: none
  std::string source;                         // the file, for messages
};

inline constexpr std::size_t kMaxUnigramTokenBytes = 65536;  // a text costs up to this many steps a byte

std::unique_ptr<TokenModel> make_unigram(UnigramSpec spec);

}  // namespace sonde
