#include "io/model_files.h"

#include <map>
#include <set>

#include "io/file_util.h"
#include "io/safetensors.h"
#include "runtime/error.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// weight_map of an index: tensor -> shard, checked to name files of this folder.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const Json json = read_json(path);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) fail("{}: key weight_map: expected an object", path.string());
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string())
      fail("{}: key weight_map.{}: found {}, expected a file name", path.string(), printable(tensor),
           file.type_name());
    const auto name = file.get<std::string>();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
      fail("{}: key weight_map.{}: found '{}', expected a file of this folder", path.string(),
           printable(tensor), printable(name));
    shards[tensor] = name;
  }
  return shards;
}

// The safetensors of a folder that has no index: model.safetensors, or the only one there is.
fs::path single_file(const fs::path& folder) {
  if (fs::exists(folder / kSingle)) return folder / kSingle;
  std::set<fs::path> found;
  bool pickled = false;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") found.insert(entry.path());
    pickled |= entry.path().extension() == ".bin" || entry.path().extension() == ".pt";
  }
  if (found.size() == 1) return *found.begin();
  fail_hint(pickled ? "pickled weights (.bin, .pt) are not read: save the model with safe_serialization=True"
                    : "is the download complete?",
            "{}: found {} .safetensors files and no {}, expected {}", folder.string(), found.size(), kIndex,
            kSingle);
}

}  // namespace

ModelFiles ModelFiles::open(const fs::path& path) {
  ModelFiles files;
  files.path_ = path;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    fail_hint("MODEL is a Hugging Face folder or a .gguf file on this machine; nothing is downloaded",
              "{}: found no file or folder", path.string());

  const auto add = [&](const std::string& name, const Tensor& view, const fs::path& file) {
    if (!files.by_name_.emplace(name, files.tensors_.size()).second)
      fail("{}: tensor {} stands in two files", file.string(), printable(name));
    files.tensors_.push_back({name, view, file});
  };

  if (!fs::is_directory(status)) {
    if (path.extension() != ".gguf")
      fail_hint("MODEL is a Hugging Face folder or a .gguf file",
                "{}: found a file that does not end in .gguf", path.string());
    files.format_ = ModelFormat::gguf;
    files.gguf_ = Gguf::open(path);
    for (const GgufTensor& tensor : files.gguf_->tensors()) add(tensor.name, tensor.view, path);
    return files;
  }

  if (!fs::exists(path / "config.json"))
    fail_hint("MODEL is a Hugging Face folder (config.json, *.safetensors) or a .gguf file",
              "{}: config.json is missing", path.string());
  files.config_ = read_json(path / "config.json");
  if (!files.config_.is_object())
    fail("{}: found {}, expected an object", (path / "config.json").string(), files.config_.type_name());

  std::map<std::string, std::string> index;
  std::set<fs::path> shards;
  if (fs::exists(path / kIndex)) {
    index = read_index(path / kIndex);
    for (const auto& [tensor, file] : index) shards.insert(path / file);
  } else {
    shards.insert(single_file(path));
  }
  for (const fs::path& shard : shards) {
    const auto opened = Safetensors::open(shard);
    for (const SafetensorsTensor& tensor : opened->tensors()) {
      const auto at = index.find(tensor.name);
      if (!index.empty() && (at == index.end() || at->second != shard.filename()))
        fail("{}: tensor {} is in {}, but the index says {}", (path / kIndex).string(),
             printable(tensor.name), shard.filename().string(),
             at == index.end() ? "nothing of it" : at->second);
      add(tensor.name, tensor.view, shard);
    }
    files.mappings_.push_back(opened);
  }
  for (const auto& [tensor, file] : index)
    if (files.find(tensor) == nullptr)
      fail_hint("the download is incomplete or mixed: fetch the folder again", "{}: tensor {} is not in {}",
                (path / kIndex).string(), printable(tensor), file);
  return files;
}

std::string ModelFiles::name() const {
  // "folder/" and "." still have a name.
  const fs::path absolute = fs::absolute(path_).lexically_normal();
  const fs::path last = absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename();
  return format_ == ModelFormat::gguf ? last.stem().string() : last.string();
}

const FileTensor* ModelFiles::find(std::string_view name) const {
  const auto at = by_name_.find(std::string(name));
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

}  // namespace sonde
