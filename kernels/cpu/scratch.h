// Working memory of one thread, grown once and kept: packed blocks and partial results of the running op.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde::cpu {

// At least `bytes`, 64-byte aligned, the calling thread's own until its next call.
std::byte* thread_scratch(std::int64_t bytes);

}  // namespace sonde::cpu
