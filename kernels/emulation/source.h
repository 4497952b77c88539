// Where a kernel stands: the file and line of a call, taken by default arguments. The compilers at hand lack
// std::source_location, and a line is what tells one barrier from another.
#pragma once

#include <cstring>

namespace sonde::emulation {

struct Source {
  const char* file = "";
  unsigned line = 0;
  static constexpr Source here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
  bool operator==(const Source& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
};

}  // namespace sonde::emulation
