#include "kernels/emulation/race/source_line.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "runtime/error.h"

namespace sonde::emulation {

std::string source_line(const void* return_address) {
  if (!return_address) return "the end of a cp.async";
  static std::map<const void*, std::string> known;
  std::string& line = known[return_address];
  if (!line.empty()) return line;
  line = fmt::format("{}", return_address);
  Dl_info module;
  if (!dladdr(return_address, &module)) return line;
  const auto* header = static_cast<const ElfW(Ehdr)*>(module.dli_fbase);
  const auto base = header->e_type == ET_DYN ? reinterpret_cast<std::uintptr_t>(header) : 0;
  const auto offset = reinterpret_cast<std::uintptr_t>(return_address) - 1 - base;
  char path[4096] = "/proc/self/exe";  // the program itself has no full path in dli_fname
  if (std::strchr(module.dli_fname, '/')) std::snprintf(path, sizeof path, "%s", module.dli_fname);
  if (FILE* pipe = popen(fmt::format("addr2line -s -e '{}' {:#x} 2>/dev/null", path, offset).c_str(), "r")) {
    char text[512] = "";
    if (fgets(text, sizeof text, pipe)) {
      text[std::strcspn(text, " \n")] = 0;
      if (text[0] && text[0] != '?') line = text;
    }
    pclose(pipe);
  }
  return line;
}

}  // namespace sonde::emulation
