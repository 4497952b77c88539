#include "kernels/emulation/race/source_line.h"

#include <dlfcn.h>
#include <link.h>

#include <cctype>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "runtime/error.h"

namespace sonde::emulation {
namespace {

// Line `n` of what addr2line says of an address in code; nothing where it knows nothing.
std::optional<std::string> ask(const void* address, std::uintptr_t back, const char* options, int n) {
  Dl_info module;
  if (!dladdr(address, &module)) return {};
  const auto* header = static_cast<const ElfW(Ehdr)*>(module.dli_fbase);
  const auto base = header->e_type == ET_DYN ? reinterpret_cast<std::uintptr_t>(header) : 0;
  const auto offset = reinterpret_cast<std::uintptr_t>(address) - back - base;
  char path[4096] = "/proc/self/exe";  // the program itself has no full path in dli_fname
  if (std::strchr(module.dli_fname, '/')) std::snprintf(path, sizeof path, "%s", module.dli_fname);
  const std::string command = fmt::format("addr2line {} -e '{}' {:#x} 2>/dev/null", options, path, offset);
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return {};
  char text[4096] = "";
  bool there = true;
  for (int i = 0; i <= n && there; ++i) there = fgets(text, sizeof text, pipe) != nullptr;
  pclose(pipe);
  text[std::strcspn(text, "\n")] = 0;
  if (!there || !text[0] || text[0] == '?') return {};
  return text;
}

// "void sonde::(anonymous namespace)::f<g::A>(int)" -> "f<A>"
std::string short_name(const std::string& full) {
  std::string name;
  int depth = 0;  // of template arguments
  for (std::size_t i = 0; i < full.size(); ++i) {
    constexpr std::string_view kAnonymous = "(anonymous namespace)";
    if (full.compare(i, kAnonymous.size(), kAnonymous) == 0) {
      i += kAnonymous.size() - 1;
      continue;
    }
    const char c = full[i];
    if (c == '(' && depth == 0) break;
    if (c == ':') {  // drop the namespace before it
      while (!name.empty() && (std::isalnum(static_cast<unsigned char>(name.back())) || name.back() == '_'))
        name.pop_back();
      continue;
    }
    if (c == ' ' && depth == 0) {  // after the return type
      name.clear();
      continue;
    }
    depth += c == '<' ? 1 : c == '>' ? -1 : 0;
    name += c;
  }
  return name;
}

}  // namespace

std::string source_line(const void* return_address) {
  if (!return_address) return "the end of a cp.async";
  static std::map<const void*, std::string> known;
  std::string& line = known[return_address];
  if (line.empty()) {
    line = ask(return_address, 1, "-s", 0).value_or(fmt::format("{}", return_address));
    if (const auto space = line.find(' '); space != line.npos) line.resize(space);
  }
  return line;
}

std::string kernel_name(const void* address) {
  static std::map<const void*, std::string> known;
  std::string& name = known[address];
  if (name.empty()) {
    const auto full = ask(address, 0, "-f -C", 0);
    name = full ? short_name(*full) : fmt::format("{}", address);
  }
  return name;
}

}  // namespace sonde::emulation
