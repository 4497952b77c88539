#include "io/model_files.h"

#include <algorithm>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "io/file_util.h"
#include "io/safetensors.h"
#include "runtime/error.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::vector<fs::path> files_with_extension(const fs::path& dir, std::string_view extension) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error))
    if (it->path().extension() == extension && is_file(it->path())) files.push_back(it->path());
  if (error) fail_errno(dir, "list", error.value());
  std::ranges::sort(files);
  return files;
}

// Which shard holds which tensors, as the index says.
using WeightMap = std::map<std::string, std::set<std::string>>;

// A shard lies in the model's folder: the index may come from anywhere and must not lead out of it.
void check_shard_name(const std::string& shard, const fs::path& index) {
  const fs::path path(shard);
  bool inside = !shard.empty() && path.is_relative() && shard.find('\0') == std::string::npos;
  for (const fs::path& part : path) inside = inside && part != "..";
  if (!inside)
    fail("{}: weight_map: found shard \"{}\", expected a file name inside the folder", index.string(),
         printable(shard));
}

WeightMap read_index(const fs::path& index) {
  const Json json = read_json(index);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object() || map->empty())
    fail("{}: key weight_map: expected an object of tensor names and file names", index.string());
  WeightMap shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string())
      fail("{}: weight_map: tensor \"{}\": found {}, expected a file name", index.string(), printable(tensor),
           shard.type_name());
    check_shard_name(shard.get<std::string>(), index);
    shards[shard.get<std::string>()].insert(tensor);
  }
  return shards;
}

// The shard's tensors must be exactly those that the index places in it.
void check_against_index(const Safetensors& shard, std::set<std::string> expected, const fs::path& index) {
  for (const SafetensorsTensor& tensor : shard.tensors())
    if (expected.erase(tensor.name) == 0)
      fail("{}: tensor \"{}\": found in this shard, but weight_map of {} does not place it here",
           shard.path().string(), printable(tensor.name), index.filename().string());
  if (!expected.empty())
    fail_hint("the shard may come from another version of the model: fetch the folder again",
              "{}: tensor \"{}\": not in this shard, expected by weight_map of {} ({} missing)",
              shard.path().string(), printable(*expected.begin()), index.filename().string(),
              expected.size());
}

// Says why a folder has no weights to read.
[[noreturn]] void fail_no_weights(const fs::path& dir, const std::vector<fs::path>& candidates) {
  if (candidates.size() > 1)
    fail_hint("rename the right one to model.safetensors",
              "{}: found {} .safetensors files and no {}, expected model.safetensors, an index, or exactly "
              "one file",
              dir.string(), candidates.size(), kIndexName);
  for (const char* extension : {".bin", ".pt", ".pth", ".h5", ".msgpack"})
    if (const auto old = files_with_extension(dir, extension); !old.empty())
      fail_hint("save the model as safetensors: model.save_pretrained(DIR, safe_serialization=True)",
                "{}: found weights only as {}, expected model.safetensors or {}", dir.string(),
                old[0].filename().string(), kIndexName);
  fail_hint("fetch the weight files too", "{}: found no weights, expected model.safetensors or {}",
            dir.string(), kIndexName);
}

std::vector<std::shared_ptr<Safetensors>> open_weights(const fs::path& dir) {
  if (is_file(dir / "model.safetensors")) return {Safetensors::open(dir / "model.safetensors")};
  const fs::path index = dir / kIndexName;
  std::vector<std::shared_ptr<Safetensors>> files;
  if (is_file(index)) {
    for (const auto& [shard, names] : read_index(index)) {
      if (!is_file(dir / shard))
        fail_hint("fetch all files of the model",
                  "{}: weight_map: shard {}: found no such file, expected it for {} tensors", index.string(),
                  printable(shard), names.size());
      files.push_back(Safetensors::open(dir / shard));
      check_against_index(*files.back(), names, index);
    }
    return files;
  }
  const std::vector<fs::path> candidates = files_with_extension(dir, ".safetensors");
  if (candidates.size() != 1) fail_no_weights(dir, candidates);
  return {Safetensors::open(candidates[0])};
}

Json read_config(const fs::path& dir) {
  const fs::path path = dir / "config.json";
  if (!is_file(path)) {
    const auto ggufs = files_with_extension(dir, ".gguf");
    fail_hint(ggufs.empty() ? "MODEL is a Hugging Face folder or a .gguf file"
                            : "give the .gguf file itself: " + ggufs[0].string(),
              "{}: found no config.json in this folder", dir.string());
  }
  Json config = read_json(path);
  if (!config.is_object()) fail("{}: found {}, expected an object", path.string(), config.type_name());
  return config;
}

// A model split over several GGUF files names its part; one part alone is not a model.
void refuse_split(const Gguf& gguf) {
  if (gguf.has("split.count") && gguf.integer("split.count") > 1)
    fail_hint("join the parts with llama-gguf-split --merge",
              "{}: key split.count: found {}, expected a model in one file", gguf.path().string(),
              gguf.integer("split.count"));
}

}  // namespace

ModelFiles ModelFiles::open(const fs::path& path) {
  ModelFiles model;
  model.path_ = path;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    fail_hint("MODEL is a Hugging Face folder or a .gguf file", "{}: no such file or folder", path.string());

  const auto add = [&model](const std::string& name, const Tensor& view, const fs::path& file) {
    if (!model.by_name_.try_emplace(name, model.tensors_.size()).second)
      fail("{}: tensor \"{}\": found a second time, first in {}", file.string(), printable(name),
           model.find(name)->file.string());
    model.tensors_.push_back({name, view, file});
  };
  if (fs::is_directory(status)) {
    model.format_ = ModelFormat::hugging_face;
    model.config_path_ = path / "config.json";
    model.config_ = read_config(path);
    for (const auto& file : open_weights(path)) {
      for (const SafetensorsTensor& tensor : file->tensors()) add(tensor.name, tensor.view, file->path());
      model.mappings_.push_back(file);
    }
    if (model.tensors_.empty()) fail("{}: found no tensors in the weight files", path.string());
  } else {
    model.format_ = ModelFormat::gguf;
    model.gguf_ = Gguf::open(path);
    refuse_split(*model.gguf_);
    for (const GgufTensor& tensor : model.gguf_->tensors()) add(tensor.name, tensor.view, path);
  }
  return model;
}

ModelFiles ModelFiles::open_config(const fs::path& path) {
  const bool file = path.extension() == ".json" && is_file(path);
  if (!file && (!fs::is_directory(path) || !files_with_extension(path, ".safetensors").empty()))
    return open(path);
  ModelFiles model;
  model.path_ = file ? fs::absolute(path).parent_path() : path;
  model.config_path_ = file ? path : path / "config.json";
  model.config_ = file ? read_json(path) : read_config(path);
  if (!model.config_.is_object())
    fail("{}: found {}, expected an object", path.string(), model.config_.type_name());
  return model;
}

std::string ModelFiles::name() const {
  // "models/x/" has an empty last part; "." has no name of its own.
  fs::path path = fs::absolute(path_).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return format_ == ModelFormat::gguf ? path.stem().string() : path.filename().string();
}

const FileTensor* ModelFiles::find(std::string_view name) const {
  const auto at = by_name_.find(std::string(name));
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

}  // namespace sonde
