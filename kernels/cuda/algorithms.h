// Which algorithm cuBLASLt runs for which shape, kept on disk per GPU and library version: picked anew, it
// could differ, and with it the last bits of a run that is resumed.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "kernels/cuda/gpu.h"

namespace sonde::SONDE_GPU {

class Algorithms {
 public:
  using Code = std::array<std::uint64_t, 8>;  // the library's, opaque

  // What the file holds, if there is one; an Error names a line that is damaged. An empty path keeps nothing.
  // recorded: the same of one run, in its output; what stands there comes first, and all that it runs is
  // added.
  explicit Algorithms(std::filesystem::path file, std::filesystem::path recorded = {});
  const Code* find(const std::string& shape);  // null: none is kept
  // Appends a line; where a file cannot be written, the choice lasts as long as this object.
  void add(const std::string& shape, const Code& code);
  // The run's file, where it decides this shape; else empty.
  std::filesystem::path recorded_in(const std::string& shape) const {
    return recorded_shapes_.count(shape) > 0 ? recorded_ : std::filesystem::path();
  }

  // In SONDE_CACHE, or the user's cache folder (which the emulation leaves alone); empty where there is none.
  static std::filesystem::path file_of(const std::string& gpu, std::size_t library_version);

 private:
  void read(const std::filesystem::path& file);

  std::filesystem::path file_, recorded_;
  std::map<std::string, Code> codes_;
  std::set<std::string> recorded_shapes_;
};

}  // namespace sonde::SONDE_GPU
