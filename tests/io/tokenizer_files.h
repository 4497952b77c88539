// Files of the tokenizer tests: goldens line by line, the real SmolLM2 and the tokenizer.json that belongs to
// it.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
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

// The default model where the product keeps it; empty when it is not there.
inline std::filesystem::path smollm2_gguf() {
  namespace fs = std::filesystem;
  if (const char* file = std::getenv("SONDE_SMOLLM2_GGUF")) return file;
  const auto env = [](const char* name) {
    const char* v = std::getenv(name);
    return fs::path(v ? v : "");
  };
  fs::path cache = env("SONDE_CACHE");
  if (cache.empty())
    cache = (env("XDG_CACHE_HOME").empty() ? env("HOME") / ".cache" : env("XDG_CACHE_HOME")) / "sonde";
  const fs::path file = cache / "SmolLM2-135M-Instruct.Q4_1.gguf";
  return fs::exists(file) ? file : fs::path();
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

}  // namespace sonde::test
