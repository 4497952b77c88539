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
std::vector<GgufSpecialToken> special_tokens_in_search_order(const Gguf& gguf,
                                                             const std::vector<std::string>& tokens,
                                                             const std::vector<GgufTokenType>& types);
// How normal tokens are written: in the byte alphabet, or as text with U+2581 for a space.
enum class TokenScript : std::uint8_t { byte_letters, spaces_as_2581 };
std::vector<DecodedToken> make_decoded_tokens(const std::vector<std::string>& tokens,
                                              const std::vector<GgufTokenType>& types, TokenScript script,
                                              const std::string& file);

}  // namespace sonde
