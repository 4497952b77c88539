// Small tokenizers of both kinds of file, for texts to go through and as seeds.
#pragma once

#include <memory>
#include <vector>

#include "io/tokenizer/tokenizer.h"
#include "tests/fuzz/input.h"
#include "tests/io/tokenizer_toy.h"

namespace sonde::fuzz {

inline std::vector<std::string> toy_tokenizer_files() {
  const test::Merges merges = {{"a", "b"}, {"ab", "c"}, {"a", "a"}, {"aa", "aa"}, {"\u0120", "abc"}};
  Json gpt2 = test::toy_json(merges);
  Json llama3 = gpt2;
  llama3["pre_tokenizer"] = Json::parse(
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "behavior": "Isolated", "pattern": {"Regex":
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  llama3["added_tokens"] = Json::parse(R"([{"id": 261, "content": "<s>", "special": true, "lstrip": true},
      {"id": 262, "content": "<pad>", "rstrip": true, "single_word": true, "normalized": true}])");
  llama3["post_processor"] =
      Json::parse(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
      {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [261], "tokens": ["<s>"]}}})");
  test::GgufWriter smollm = test::toy_gguf("smollm", test::toy_tokens(merges), merges);
  test::GgufWriter llama = test::toy_gguf("llama-bpe", test::toy_tokens(merges), merges);
  llama.boolean("tokenizer.ggml.add_bos_token", true);
  llama.integer("tokenizer.ggml.bos_token_id", 97);
  return {gpt2.dump(), llama3.dump(), smollm.bytes(), llama.bytes()};
}

inline std::vector<std::unique_ptr<Tokenizer>> toy_tokenizers() {
  const Folder folder;
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const std::string& bytes : toy_tokenizer_files())
    tokenizers.push_back(load_tokenizer(folder.write("tokenizer.json", bytes)));
  return tokenizers;
}

}  // namespace sonde::fuzz
