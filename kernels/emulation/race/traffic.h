// What a kernel asks of memory, by line: requests of warps, 32-byte sectors, wavefronts of shared memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/emulation/access.h"

namespace sonde::emulation {

// The n-th time that the lanes of a warp come to a line is one request.
struct LineTraffic {
  std::string line;
  bool shared, write;
  unsigned bytes_per_lane;
  std::uint64_t requests;
  std::uint64_t needed,
      least;  // sectors (global) or wavefronts (shared): those taken, and the fewest possible
  double efficiency() const { return needed ? static_cast<double>(least) / static_cast<double>(needed) : 1; }
};
struct Traffic {
  std::vector<LineTraffic> lines;
  std::uint64_t bytes_read, bytes_written;  // global, as asked for by lanes
  std::uint64_t sectors_read,
      sectors_written;  // each counted once a launch: what DRAM must move at least, in 32 bytes
};
// Of one kernel's launches.
struct KernelTraffic : Traffic {
  std::string kernel;  // "norm_rows<true, false>"
  unsigned threads;    // of a block
  std::size_t dynamic_bytes;
  std::uint64_t launches, blocks, mma_flops;
};

void clear_traffic();
Traffic traffic();                                // of all launches since clear_traffic with config().trace
std::vector<KernelTraffic> traffic_of_kernels();  // the same, one by one, in the order of their first launch
std::string traffic_table();                      // the same for people

void count_traffic(const void* data, std::size_t bytes, Access access, const void* pc, bool shared);
void begin_traffic_of_grid(const Launch& launch);
void end_traffic_of_block();

}  // namespace sonde::emulation
