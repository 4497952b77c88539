// GGUF v2 and v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata and tensor table of
// one file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "runtime/tensor.h"

namespace sonde {

class MappedFile;

// A metadata value. Integers of all widths become int64 (uint64 above 2^63 is refused), floats double.
using GgufValue = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  Tensor view;  // shape reversed to row-major: {ne[1], ne[0]} for a matrix
};

class Gguf {
 public:
  static std::shared_ptr<Gguf> open(
      const std::filesystem::path& path);  // checks every count, offset and size

  const std::filesystem::path& path() const { return path_; }
  std::span<const GgufTensor> tensors() const { return tensors_; }
  bool has(std::string_view key) const;
  const std::vector<std::string>& keys() const { return keys_; }  // file order

  // Typed access; an absent key or another type is an Error that names file, key, found and expected.
  const GgufValue& value(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;  // accepts integers
  bool boolean(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  const std::vector<std::string>& texts(std::string_view key) const;
  const std::vector<std::int64_t>& integers(std::string_view key) const;
  const std::vector<double>& reals(std::string_view key) const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<MappedFile> file_;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace sonde
