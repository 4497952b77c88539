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

// Adds one merge. `where` opens the message when left, right or their union is no token.
enum class Duplicate { first_counts, last_counts };
void add_merge(MergeTable& merges, const TokenIndex& index, std::string_view left, std::string_view right,
               std::uint32_t rank, Duplicate duplicate, const std::string& file, std::string_view key);

}  // namespace sonde
