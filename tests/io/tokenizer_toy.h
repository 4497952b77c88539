// Small tokenizers made on the spot: a tokenizer.json with every byte as a token and the merges one asks for,
// and the same as GGUF metadata.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "io/json.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/utf8.h"

namespace sonde::test {

using Merges = std::vector<std::pair<std::string, std::string>>;  // in the byte alphabet

inline std::string letter(int byte) {
  std::string text;
  append_utf8(text, letter_of_byte(static_cast<unsigned char>(byte)));
  return text;
}

// Bytes 0 to 255 are ids 0 to 255 (without those in `missing`), merges follow.
inline std::vector<std::string> toy_tokens(const Merges& merges, const std::string& missing = {}) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte)
    if (missing.find(static_cast<char>(byte)) == std::string::npos) tokens.push_back(letter(byte));
  for (const auto& [left, right] : merges)
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) tokens.push_back(left + right);
  return tokens;
}

inline Json toy_json(const Merges& merges, const std::string& missing = {}) {
  Json json = Json::parse(R"({"added_tokens": [], "normalizer": null, "post_processor": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {}, "merges": []}})");
  std::int64_t id = 0;
  for (const std::string& token : toy_tokens(merges, missing)) json["model"]["vocab"][token] = id++;
  for (const auto& [left, right] : merges) json["model"]["merges"].push_back({left, right});
  return json;
}

// Bytes of a GGUF v3 file that holds metadata alone.
class GgufWriter {
 public:
  void text(const std::string& key, const std::string& value) { entry(key, 8), put_text(value); }
  void boolean(const std::string& key, bool value) { entry(key, 7), put<std::uint8_t>(value); }
  void integer(const std::string& key, std::uint32_t value) { entry(key, 4), put(value); }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    entry(key, 9), put<std::uint32_t>(8), put<std::uint64_t>(values.size());
    for (const std::string& value : values) put_text(value);
  }
  void integers(const std::string& key, const std::vector<std::int32_t>& values) {
    entry(key, 9), put<std::uint32_t>(5), put<std::uint64_t>(values.size());
    for (const std::int32_t value : values) put(value);
  }
  void reals(const std::string& key, const std::vector<float>& values) {
    entry(key, 9), put<std::uint32_t>(6), put<std::uint64_t>(values.size());
    for (const float value : values) put(value);
  }
  std::string bytes() const {
    std::string head = "GGUF";
    const auto add = [&](auto value) { head.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
    add(std::uint32_t{3}), add(std::uint64_t{0}), add(entries_);
    return head + body_;
  }

 private:
  template <class T>
  void put(T value) {
    body_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void put_text(const std::string& value) { put<std::uint64_t>(value.size()), body_ += value; }
  void entry(const std::string& key, std::uint32_t type) { ++entries_, put_text(key), put(type); }
  std::string body_;
  std::uint64_t entries_ = 0;
};

inline GgufWriter toy_gguf(const std::string& pre, std::vector<std::string> tokens, const Merges& merges,
                           const std::string& model = "gpt2") {
  GgufWriter file;
  file.text("general.architecture", "llama");
  file.text("tokenizer.ggml.model", model);
  file.text("tokenizer.ggml.pre", pre);
  file.texts("tokenizer.ggml.tokens", tokens);
  std::vector<std::string> lines;
  for (const auto& [left, right] : merges) lines.push_back(left + " " + right);
  file.texts("tokenizer.ggml.merges", lines);
  return file;
}

}  // namespace sonde::test
