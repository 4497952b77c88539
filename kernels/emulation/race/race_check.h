// Which accesses are ordered: by program, by barriers, by __syncwarp, between blocks by a fence and an
// atomic, and between streams by waits and events.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/emulation/access.h"

namespace sonde::emulation {

void begin_races_of_work();
void begin_races_of_grid();
void begin_races_of_block();
void check_race(const void* data, std::size_t bytes, Access access, const void* pc, bool shared);
void release_writes();        // __threadfence of the running block
std::string races_of_work();  // the first one as a sentence; empty: none
void check_range(const void* data, std::size_t bytes, Access access);  // by work that is no kernel
void forget_races(const void* data, std::size_t bytes);

}  // namespace sonde::emulation
