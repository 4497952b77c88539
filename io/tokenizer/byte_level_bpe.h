// Byte-level BPE: a piece's bytes are its first symbols, merges do the rest.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>

#include "io/tokenizer/bpe_merge.h"
#include "io/tokenizer/model.h"

namespace sonde {

struct ByteLevelBpeSpec {
  std::array<std::int32_t, 256> byte_ids;  // token of each byte, -1: none
  MergeTable merges;
  // A byte without a token: dropped so that its neighbours may merge (Hugging Face), dropped but still
  // between them (llama.cpp), or the unknown token, successive ones as one if fuse_unknown.
  enum class MissingByte { close_gap, keep_gap, unknown } missing = MissingByte::close_gap;
  std::int32_t unknown_id = -1;
  bool fuse_unknown = false;
  // A piece that is a token as a whole is that token, whatever the merges say. Keys are raw bytes.
  bool ignore_merges = false;
  std::unordered_map<std::string, std::int32_t> whole_words;
};

std::unique_ptr<TokenModel> make_byte_level_bpe(ByteLevelBpeSpec spec);

}  // namespace sonde
