#include "io/tokenizer/vocabulary.h"

#include <algorithm>

#include "io/file_util.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/utf8.h"
#include "runtime/error.h"

namespace sonde {

std::array<std::int32_t, 256> find_byte_ids(const TokenIndex& index) {
  std::array<std::int32_t, 256> ids;
  for (int byte = 0; byte < 256; ++byte) {
    std::string letter;
    append_utf8(letter, letter_of_byte(static_cast<unsigned char>(byte)));
    const auto found = index.find(letter);
    ids[static_cast<std::size_t>(byte)] = found == index.end() ? -1 : found->second;
  }
  return ids;
}

std::unordered_map<std::string, std::int32_t> find_whole_words(const TokenIndex& index) {
  std::unordered_map<std::string, std::int32_t> words;
  for (const auto& [text, id] : index)
    if (valid_utf8_prefix(text) == text.size())
      if (auto bytes = bytes_of_token(text)) words.emplace(std::move(*bytes), id);
  return words;
}

std::int32_t add_merge(MergeTable& merges, const TokenIndex& index, std::string_view left,
                       std::string_view right, std::uint32_t rank, Duplicate duplicate,
                       const std::string& file, std::string_view key, std::size_t prefix) {
  const auto id_of = [&](std::string text) {
    const auto found = index.find(text);
    if (found == index.end())
      fail("{}: key {}[{}]: merge of \"{}\" and \"{}\": found no token \"{}\", expected it in the vocabulary",
           file, key, rank, printable(left), printable(right), printable(text));
    return found->second;
  };
  const std::int32_t left_id = id_of(std::string(left)), right_id = id_of(std::string(right));
  const std::int32_t id =
      id_of(std::string(left) + std::string(right.substr(std::min(prefix, right.size()))));
  merges.insert(left_id, right_id, {rank, id}, duplicate == Duplicate::last_counts);
  return id;
}

std::array<std::int32_t, 256> find_byte_tokens(const TokenIndex& index) {
  std::array<std::int32_t, 256> ids;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto found = index.find(fmt::format("<0x{:02X}>", byte));
    ids[byte] = found == index.end() ? -1 : found->second;
  }
  return ids;
}

}  // namespace sonde
