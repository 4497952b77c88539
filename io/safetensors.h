// One safetensors file (https://huggingface.co/docs/safetensors): 8 bytes of header length, a JSON header,
// bytes.
#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/mapped_file.h"
#include "runtime/tensor.h"

namespace sonde {

struct SafetensorsTensor {
  std::string name;
  Tensor view;  // of the mapped bytes; a scalar has rank 0. May be unaligned for its dtype.
};

class Safetensors {
 public:
  // Checks the header's length, shape, dtypes and sizes, and that the tensors fill the data without gap or
  // overlap.
  static std::shared_ptr<Safetensors> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }  // in order of their bytes
  const SafetensorsTensor* find(std::string_view name) const {             // nullptr when absent
    const auto at = std::ranges::find(tensors_, name, &SafetensorsTensor::name);
    return at == tensors_.end() ? nullptr : &*at;
  }
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }

 private:
  std::shared_ptr<MappedFile> file_;
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

}  // namespace sonde
