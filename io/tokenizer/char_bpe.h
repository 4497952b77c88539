// BPE whose first symbols are a piece's characters (SentencePiece-style vocabularies in tokenizer.json, and
// every other that is not byte-level at the end).
#pragma once

#include <array>
#include <memory>
#include <string>

#include "io/tokenizer/bpe_merge.h"
#include "io/tokenizer/model.h"
#include "io/tokenizer/pair_set.h"
#include "io/tokenizer/vocabulary.h"

namespace sonde {

struct CharBpeSpec {
  TokenIndex vocabulary;
  MergeTable merges;
  PairSet pairs;  // of all that merges make
  // A character without a token: its bytes' tokens if all of them exist (byte_fallback), else the unknown
  // token
  // (>= 0; successive ones as one if fuse_unknown), else nothing, so that its neighbours may merge.
  bool byte_fallback = false;
  std::array<std::int32_t, 256> byte_tokens;  // <0x00> to <0xFF>, -1: none
  std::int32_t unknown_id = -1;
  bool fuse_unknown = false;
  bool ignore_merges = false;             // a piece that is a token as a whole is that token
  std::string inner_prefix, last_suffix;  // continuing_subword_prefix, end_of_word_suffix
};

std::unique_ptr<TokenModel> make_char_bpe(CharBpeSpec spec);

}  // namespace sonde
