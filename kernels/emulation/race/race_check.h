// Which accesses of a launch are ordered: by program, by barriers, by __syncwarp, and between blocks by a
// fence and an atomic.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/emulation/access.h"

namespace sonde::emulation {

void begin_races_of_grid();
void begin_races_of_block();
void check_race(const void* data, std::size_t bytes, Access access, const void* pc, bool shared);
void release_writes();        // __threadfence of the running block
std::string races_of_grid();  // "a race: ..." of the first, empty if there was none

}  // namespace sonde::emulation
