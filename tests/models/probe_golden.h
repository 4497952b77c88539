// The solver goldens: problems, coefficients and metrics of solver.safetensors and solver.json.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/json.h"

namespace sonde::test {

class SolverGolden {
 public:
  explicit SolverGolden(const std::filesystem::path& dir) : values(read_json(dir / "solver.json")) {
    const auto path = dir / "solver.safetensors";
    bytes_.resize(std::filesystem::file_size(path));
    std::ifstream(path, std::ios::binary).read(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    std::uint64_t length = 0;
    std::memcpy(&length, bytes_.data(), 8);
    header_ = parse_json(std::string_view(bytes_.data() + 8, length), "solver.safetensors");
    data_ = bytes_.data() + 8 + length;
  }

  template <class T>
  std::vector<T> get(const std::string& name) const {
    if (!header_.contains(name)) throw std::runtime_error("golden " + name + " is missing");
    const auto first = header_[name]["data_offsets"][0].get<std::size_t>(),
               end = header_[name]["data_offsets"][1].get<std::size_t>();
    std::vector<T> out((end - first) / sizeof(T));
    std::memcpy(out.data(), data_ + first, end - first);
    return out;
  }

  Json values;

 private:
  std::string bytes_;
  Json header_;
  const char* data_ = nullptr;
};

}  // namespace sonde::test
