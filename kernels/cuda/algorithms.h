// Which algorithm cuBLASLt runs for which shape, kept on disk per GPU and library version: picked anew, it
// could differ, and with it the last bits of a run that is resumed.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "kernels/cuda/gpu.h"

namespace sonde::SONDE_GPU {

class Algorithms {
 public:
  using Code = std::array<std::uint64_t, 8>;  // the library's, opaque

  // What the file holds, if there is one; an Error names a line that is damaged. An empty path keeps nothing.
  explicit Algorithms(std::filesystem::path file);
  const Code* find(const std::string& shape) const;  // null: none is kept
  // Appends a line; where the file cannot be written, the choice lasts as long as this object.
  void add(const std::string& shape, const Code& code);

  // In SONDE_CACHE, or the user's cache folder (which the emulation leaves alone); empty where there is none.
  static std::filesystem::path file_of(const std::string& gpu, std::size_t library_version);

 private:
  std::filesystem::path file_;
  std::map<std::string, Code> codes_;
};

}  // namespace sonde::SONDE_GPU
