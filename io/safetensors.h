// One .safetensors file (https://github.com/huggingface/safetensors, "Format"): a JSON header, then raw tensors.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/tensor.h"

namespace sonde {

class MappedFile;

struct SafetensorsTensor {
  std::string name;
  Tensor view;  // of the mapped bytes; may be unaligned for its dtype
};

class Safetensors {
 public:
  // Checks header, dtypes, shapes and offsets against each other and the file's size: an Error names what differs.
  static std::shared_ptr<Safetensors> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }  // header order
  const SafetensorsTensor* find(std::string_view name) const;             // nullptr when absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<MappedFile> file_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace sonde
