// Files of the tokenizer tests: goldens line by line, the real SmolLM2 and the tokenizer.json that belongs to
// it.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "io/gguf.h"
#include "io/json.h"
#include "tests/shared_files.h"

namespace sonde::test {

inline std::vector<Json> read_jsonl(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<Json> rows;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) rows.push_back(parse_json(line, path.string()));
  return rows;
}

// A model of scripts/get_model.sh where the product keeps it, or where `variable` says; empty when it is not
// there.
inline std::filesystem::path cached_model(const char* variable, const char* name) {
  namespace fs = std::filesystem;
  if (const char* file = std::getenv(variable)) return file;
  const auto env = [](const char* key) {
    const char* v = std::getenv(key);
    return fs::path(v ? v : "");
  };
  fs::path cache = env("SONDE_CACHE");
  if (cache.empty())
    cache = (env("XDG_CACHE_HOME").empty() ? env("HOME") / ".cache" : env("XDG_CACHE_HOME")) / "sonde";
  return fs::exists(cache / name) ? cache / name : fs::path();
}
inline std::filesystem::path smollm2_gguf() {
  return cached_model("SONDE_SMOLLM2_GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf");
}
inline std::filesystem::path gemma3_gguf() {
  return cached_model("SONDE_GEMMA3_GGUF", "gemma-3-270m-q4_k_m.gguf");
}

// A folder that goes away with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "sonde-tokenizer-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

// SmolLM2's tokenizer.json: the given fields, vocabulary and merges from the GGUF.
inline std::string assemble_smollm2_json(const std::filesystem::path& fields,
                                         const std::filesystem::path& gguf_path) {
  Json json = read_json(fields);
  const auto gguf = Gguf::open(gguf_path);
  const auto& tokens = gguf->texts("tokenizer.ggml.tokens");
  std::string vocab = "{", merges = "[";
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (id > 0) vocab += ',';
    vocab += Json(tokens[id]).dump();
    vocab += ':';
    vocab += std::to_string(id);
  }
  for (const std::string& merge : gguf->texts("tokenizer.ggml.merges")) {
    if (merges.size() > 1) merges += ',';
    merges += Json(merge).dump();
  }
  vocab += '}';
  merges += ']';
  json["model"]["vocab"] = "VOCAB";
  json["model"]["merges"] = "MERGES";
  std::string text = json.dump();
  text.replace(text.find("\"VOCAB\""), 7, vocab);
  text.replace(text.find("\"MERGES\""), 8, merges);
  return text;
}

// Gemma 3's: the given fields; merges are all splits of all tokens into two, by (score, characters left,
// right), the highest first, and otherwise by the ids of the token, left and right.
inline std::string assemble_gemma3_json(const std::filesystem::path& fields,
                                        const std::filesystem::path& gguf_path) {
  Json json = read_json(fields);
  const auto gguf = Gguf::open(gguf_path);
  std::vector<std::string> tokens = gguf->texts("tokenizer.ggml.tokens");
  std::vector<double> scores = gguf->reals("tokenizer.ggml.scores");
  const auto& types = gguf->integers("tokenizer.ggml.token_type");
  json["added_tokens"] = Json::array();
  std::unordered_map<std::string, std::size_t> ids;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == 4)
      for (std::size_t at; (at = tokens[id].find(' ')) != std::string::npos;)
        tokens[id].replace(at, 1, "\u2581");
    if (types[id] == 3 || types[id] == 4) {
      scores[id] = 0;
      json["added_tokens"].push_back(
          {{"id", id}, {"content", tokens[id]}, {"special", types[id] == 3}, {"normalized", false}});
    }
    ids.emplace(tokens[id], id);
  }
  struct Split {
    double score;
    std::size_t left_length, right_length, token, left, right;
  };
  std::vector<Split> splits;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string& token = tokens[id];
    const auto characters = [&](std::size_t begin, std::size_t end) {
      return static_cast<std::size_t>(std::count_if(token.begin() + static_cast<std::ptrdiff_t>(begin),
                                                    token.begin() + static_cast<std::ptrdiff_t>(end),
                                                    [](char c) { return (c & 0xC0) != 0x80; }));
    };
    for (std::size_t at = 1; at < token.size(); ++at) {
      if ((token[at] & 0xC0) == 0x80) continue;
      const auto left = ids.find(token.substr(0, at)), right = ids.find(token.substr(at));
      if (left != ids.end() && right != ids.end())
        splits.push_back(
            {scores[id], characters(0, at), characters(at, token.size()), id, left->second, right->second});
    }
  }
  std::ranges::sort(splits, [](const Split& a, const Split& b) {
    return std::tuple(-a.score, b.left_length, b.right_length, a.token, a.left, a.right) <
           std::tuple(-b.score, a.left_length, a.right_length, b.token, b.left, b.right);
  });
  std::string vocab = "{", merges = "[";
  for (std::size_t id = 0; id < tokens.size(); ++id)
    vocab += (id > 0 ? "," : "") + Json(tokens[id]).dump() + ":" + std::to_string(id);
  for (const Split& split : splits)
    merges += (merges.size() > 1 ? ",[" : "[") + Json(tokens[split.left]).dump() + "," +
              Json(tokens[split.right]).dump() + "]";
  json["model"]["vocab"] = "VOCAB";
  json["model"]["merges"] = "MERGES";
  std::string text = json.dump();
  text.replace(text.find("\"VOCAB\""), 7, vocab + "}");
  text.replace(text.find("\"MERGES\""), 8, merges + "]");
  return text;
}

}  // namespace sonde::test
