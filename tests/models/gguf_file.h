// GGUF files (version 3) made on the spot: metadata and float tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace sonde::test {

using GgufMetadata = std::variant<std::uint32_t, float, bool, std::string>;

struct GgufFile {
  struct F32Tensor {
    std::string name;
    std::vector<std::int64_t> shape;  // row-major
    std::vector<float> values;
  };
  std::vector<std::pair<std::string, GgufMetadata>> metadata;
  std::vector<F32Tensor> tensors;

  void write(const std::filesystem::path& path) const {
    std::string out = "GGUF";
    const auto number = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
    const auto text = [&](const std::string& s) { number(std::uint64_t{s.size()}), out += s; };
    number(std::uint32_t{3});
    number(std::uint64_t{tensors.size()});
    number(std::uint64_t{metadata.size()});
    for (const auto& [key, value] : metadata) {
      constexpr std::uint32_t kTypes[] = {4, 6, 7, 8};  // uint32, float32, bool, string
      text(key);
      number(kTypes[value.index()]);
      if (const auto* s = std::get_if<std::string>(&value)) text(*s);
      if (const auto* u = std::get_if<std::uint32_t>(&value)) number(*u);
      if (const auto* f = std::get_if<float>(&value)) number(*f);
      if (const auto* b = std::get_if<bool>(&value)) number(static_cast<std::uint8_t>(*b));
    }
    std::uint64_t offset = 0;
    for (const F32Tensor& t : tensors) {
      text(t.name);
      number(static_cast<std::uint32_t>(t.shape.size()));
      for (std::size_t i = t.shape.size(); i-- > 0;) number(static_cast<std::uint64_t>(t.shape[i]));
      number(std::uint32_t{0});  // F32
      number(offset);
      offset += (t.values.size() * 4 + 31) / 32 * 32;
    }
    out.resize((out.size() + 31) / 32 * 32);
    for (const F32Tensor& t : tensors) {
      out.append(reinterpret_cast<const char*>(t.values.data()), t.values.size() * 4);
      out.resize((out.size() + 31) / 32 * 32);
    }
    std::ofstream(path, std::ios::binary) << out;
  }
};

}  // namespace sonde::test
