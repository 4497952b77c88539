// Memory that this process may still take.
#pragma once

#include <cstdint>

namespace sonde {

// What the system calls available, within the limit of the process's control group; -1: unknown.
std::int64_t available_memory_bytes();

}  // namespace sonde
