// The types of a GGUF vocabulary's tokens, with what llama.cpp changes about them at load, and what follows:
// which tokens are looked for in a text, in which order, and how each is written back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/decoder.h"
#include "io/tokenizer/vocabulary.h"

namespace sonde {

// Bits: a token that looks like a control token becomes one beside what it was.
enum GgufTokenType : std::uint8_t {
  kUndefinedToken = 0,
  kNormalToken = 1,
  kUnknownToken = 2,
  kControlToken = 4,
  kUserDefinedToken = 8,
  kUnusedToken = 16,
  kByteToken = 32,
};

std::vector<GgufTokenType> read_token_types(const Gguf& gguf, const std::vector<std::string>& tokens,
                                            const TokenIndex& index);
// Longest first; among equals in the order that llama.cpp's sort leaves them.
std::vector<GgufSpecialToken> special_tokens_in_search_order(const std::vector<std::string>& tokens,
                                                             const std::vector<GgufTokenType>& types,
                                                             const std::string& file);
std::vector<DecodedToken> make_decoded_tokens(const std::vector<std::string>& tokens,
                                              const std::vector<GgufTokenType>& types,
                                              const std::string& file);
// Models whose special tokens llama.cpp changes by the model's name; none has a tokenizer supported here.
void refuse_renamed_specials(const Gguf& gguf);

}  // namespace sonde
