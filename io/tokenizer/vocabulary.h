// What both loaders share: token texts to ids, and the tables of byte-level BPE made from them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "io/tokenizer/byte_level_bpe.h"

namespace sonde {

// The order of its elements matters to the GGUF loader, which imitates llama.cpp's walk over the same
// container.
using TokenIndex = std::unordered_map<std::string, std::int32_t>;

std::array<std::int32_t, 256> find_byte_ids(const TokenIndex& index);

// Every token that is written in the byte alphabet, under its raw bytes.
std::unordered_map<std::string, std::int32_t> find_whole_words(const TokenIndex& index);

// Adds one merge and returns its token; left, right and their union (without the first `prefix` bytes of
// right) must be tokens.
enum class Duplicate { first_counts, last_counts };
std::int32_t add_merge(MergeTable& merges, const TokenIndex& index, std::string_view left,
                       std::string_view right, std::uint32_t rank, Duplicate duplicate,
                       const std::string& file, std::string_view key, std::size_t prefix = 0);

// The tokens "<0x00>" to "<0xFF>"; -1 where there is none.
std::array<std::int32_t, 256> find_byte_tokens(const TokenIndex& index);

}  // namespace sonde
