// The files a model comes as: a Hugging Face folder or one GGUF file. Opening reads headers only; tensor
// bytes stay mapped and are touched when a tensor is read.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/gguf.h"
#include "io/json.h"
#include "runtime/tensor.h"

namespace sonde {

// A tensor of a file, shape in row-major order as Hugging Face writes it ([out, in]; GGUF's dims are
// reversed).
struct FileTensor {
  std::string name;
  Tensor view;  // of the mapped bytes; may be unaligned for its dtype: copy or dequantise, don't cast
  std::filesystem::path file;  // for messages
};

enum class ModelFormat { hugging_face, gguf };

class ModelFiles {
 public:
  // A folder with config.json (safetensors, one file or model.safetensors.index.json; a symlinked hub
  // snapshot too), or a .gguf file. Every size, offset, dtype and shape is checked here; any disagreement is
  // an Error that names file, key, found and expected.
  static ModelFiles open(const std::filesystem::path& path);
  // The same where weights may be absent, to plan with: a config.json, or a folder that has one, is enough.
  static ModelFiles open_config(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& config_path() const { return config_path_; }  // Hugging Face only
  ModelFormat format() const { return format_; }
  std::string name() const;                         // folder or file name without extension
  const Json& config() const { return config_; }    // Hugging Face only; null for GGUF
  const Gguf* gguf() const { return gguf_.get(); }  // GGUF only
  std::span<const FileTensor> tensors() const { return tensors_; }
  const FileTensor* find(std::string_view name) const;  // nullptr when absent

 private:
  std::filesystem::path path_, config_path_;
  ModelFormat format_ = ModelFormat::hugging_face;
  Json config_;
  std::shared_ptr<Gguf> gguf_;
  std::vector<FileTensor> tensors_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::vector<std::shared_ptr<void>> mappings_;  // keep the mapped files alive
};

}  // namespace sonde
