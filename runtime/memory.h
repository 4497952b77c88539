// Memory that this process may still take, and has taken.
#pragma once

#include <cstdint>

namespace sonde {

// What the system calls available, within the limit of the process's control group; -1: unknown.
std::int64_t available_memory_bytes();
// The most this process has had in memory so far, mapped files included; 0: unknown.
std::int64_t peak_memory_bytes();

}  // namespace sonde
