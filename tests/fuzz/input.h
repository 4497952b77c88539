// What the fuzz targets share: an input as a file, and the rule that a reader may throw an Error and nothing
// else.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "runtime/error.h"
#include "runtime/tensor.h"

namespace sonde::fuzz {

// A folder of this process (in TMPDIR, best in memory), removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "sonde-fuzz-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw Error("no scratch folder");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return file;
  }

 private:
  std::filesystem::path path_;
};

// An input whose first byte chooses among `choices`; the rest is the file.
struct Input {
  std::size_t choice = 0;
  std::string_view bytes;

  Input(const std::uint8_t* data, std::size_t size, std::size_t choices = 1) {
    bytes = {reinterpret_cast<const char*>(data), size};
    if (choices == 1 || size == 0) return;
    choice = data[0] % choices;
    bytes.remove_prefix(1);
  }
};

// Any other exception (bad_alloc, out_of_range, ...) escapes, and libFuzzer takes it for the crash it is.
template <class F>
int refuse_or_read(const F& read) {
  try {
    read();
  } catch (const Error& error) {
    if (*error.what() == '\0') __builtin_trap();
  }
  return 0;
}

// Bytes that a reader found must be there to read.
inline void touch(const std::byte* bytes, std::int64_t n) {
  volatile unsigned sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum = sum + static_cast<unsigned>(bytes[i]);
}
inline void touch(const Tensor& view) { touch(view.data, bytes_of(view.dtype, view.count())); }

}  // namespace sonde::fuzz
