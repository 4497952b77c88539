// Reads a config.json or GGUF metadata so that every key is claimed: used, known to be harmless, or an error.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_files.h"

namespace sonde {

// Keys that a load ignored because the user said so (--ignore-config-key); they go into manifests.
struct IgnoredKeys {
  std::set<std::string> allowed;
};

// One level of a config: typed access that claims each key it is asked for.
class ConfigReader {
 public:
  // config.json of a Hugging Face folder. `ignored` must outlive the reader.
  ConfigReader(const Json& object, std::string source, const IgnoredKeys& ignored, std::string prefix = {});

  bool has(const std::string& key) const;      // present and not null; claims nothing
  bool is_null(const std::string& key) const;  // present as null
  std::int64_t integer(const std::string& key);
  std::int64_t integer(const std::string& key, std::int64_t otherwise);
  double real(const std::string& key);
  double real(const std::string& key, double otherwise);
  bool boolean(const std::string& key, bool otherwise);
  std::string text(const std::string& key);
  std::string text(const std::string& key, const std::string& otherwise);
  std::vector<double> reals(const std::string& key);
  std::vector<std::int64_t> integers(const std::string& key);
  std::vector<std::string> texts(const std::string& key);
  // A key whose only supported value is this one, if it is there at all.
  void expect(const std::string& key, const Json& value);
  ConfigReader object(const std::string& key);  // a nested object, to be finished by the caller

  void claim(std::initializer_list<const char*> keys) { claimed_.insert(keys.begin(), keys.end()); }
  // Throws for the first key that is neither claimed, harmless nor allowed.
  void finish(const std::vector<std::string_view>& harmless = {}) const;
  const std::string& source() const { return source_; }

 private:
  const Json* find(const std::string& key);  // claims; nullptr if absent or null
  [[noreturn]] void wrong(const std::string& key, std::string_view expected) const;

  const Json* json_;
  std::string source_, prefix_;
  const IgnoredKeys* ignored_;
  std::set<std::string> claimed_;
};

// The same rule for GGUF: keys under `arch.` must be claimed; general.* and tokenizer.* are not the model's
// maths.
class GgufReader {
 public:
  GgufReader(const Gguf& gguf, std::string arch, const IgnoredKeys& ignored)
      : gguf_(&gguf), arch_(std::move(arch)), ignored_(&ignored) {}

  bool has(const std::string& key) const { return gguf_->has(arch_ + "." + key); }
  std::int64_t integer(const std::string& key);
  std::int64_t integer(const std::string& key, std::int64_t otherwise);
  double real(const std::string& key);
  double real(const std::string& key, double otherwise);
  bool boolean(const std::string& key, bool otherwise);
  std::string text(const std::string& key, const std::string& otherwise);
  void expect(const std::string& key, std::int64_t value);  // the only supported one, if it is there at all
  void claim(const std::string& key) { claimed_.insert(arch_ + "." + key); }
  void finish(const std::vector<std::string_view>& harmless = {}) const;
  std::string source() const { return gguf_->path().string(); }

 private:
  const Gguf* gguf_;
  std::string arch_;
  const IgnoredKeys* ignored_;
  std::set<std::string> claimed_;
};

}  // namespace sonde
