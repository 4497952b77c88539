#include "runtime/memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace sonde {
namespace {

// A file that holds one number; -1 where it holds none ("max") or is not there.
std::int64_t number_in(const char* path) {
  std::ifstream file(path);
  std::int64_t value = -1;
  return file >> value ? value : -1;
}

// The number behind a word at the start of a line; 0 without one.
std::int64_t field_in(const char* path, const std::string& word) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(word + " ") || line.starts_with(word + ":"))
      return std::stoll(line.substr(word.size() + 1));
  return 0;
}

// Limit minus use, in which files that could be dropped do not count; -1 without a limit.
std::int64_t left_in_group(const char* limit_file, const char* used_file, const char* statistics) {
  const std::int64_t limit = number_in(limit_file), used = number_in(used_file);
  if (limit < 0 || used < 0) return -1;
  const std::int64_t files = field_in(statistics, "inactive_file") + field_in(statistics, "active_file");
  return std::max<std::int64_t>(0, limit - std::max<std::int64_t>(0, used - files));
}

}  // namespace

std::int64_t available_memory_bytes() {
  std::int64_t available = field_in("/proc/meminfo", "MemAvailable") * 1024;
  if (available == 0) available = -1;
  for (const std::int64_t left :
       {left_in_group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                      "/sys/fs/cgroup/memory.stat"),
        left_in_group("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                      "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat")})
    if (left >= 0) available = available < 0 ? left : std::min(available, left);
  return available;
}

// Not getrusage: its maximum is inherited from whatever the process was before exec.
std::int64_t peak_memory_bytes() { return field_in("/proc/self/status", "VmHWM") * 1024; }

}  // namespace sonde
