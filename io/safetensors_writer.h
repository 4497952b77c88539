// Writes one .safetensors file: a JSON header with sorted offsets, then the tensors, 8-byte aligned;
// atomically.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace sonde {

struct NamedTensor {
  std::string name;
  Tensor view;  // contiguous, of a dtype that safetensors knows
};

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace sonde
