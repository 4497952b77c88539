// SentencePiece's BPE as llama.cpp does it: two neighbours merge when their text is a token; of all such the
// one with the highest score goes first, then the leftmost.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer/model.h"

namespace sonde {

struct ScoreBpeSpec {
  std::vector<std::string> tokens;  // text of each id
  std::vector<float> scores;        // of each id; no NaN
  std::array<std::int32_t, 256>
      byte_tokens;     // for characters that are no token; -1: a text that needs it is an Error
  std::string source;  // the file, for messages
};

std::unique_ptr<TokenModel> make_score_bpe(ScoreBpeSpec spec);

}  // namespace sonde
