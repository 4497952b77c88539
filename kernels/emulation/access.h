// Where a checking build looks over a kernel's shoulder. access_unchecked.cpp or race/ implements it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace sonde::emulation {

struct Launch;
enum class Access : std::uint8_t { read, write, atomic };

// One lane's request; `pc` is an address in the kernel's line, nullptr for the end of a cp.async.
void record_access(const void* data, std::size_t bytes, Access access, const void* pc);

void record_fence();  // __threadfence
// The same for memory that a copy or a memset reads or writes, and for memory that begins a new life.
void record_range(const void* data, std::size_t bytes, Access access);
void forget_range(const void* data, std::size_t bytes);

void accesses_of_grid_begin(const Launch& launch);
void accesses_of_block_begin();
void accesses_of_block_end();
// Around each piece of a stream's work; what was wrong with its accesses, as a sentence; empty: nothing.
void accesses_of_work_begin();
std::string accesses_of_work_end();
bool accesses_are_checked();  // blocks then run one after the other

}  // namespace sonde::emulation
