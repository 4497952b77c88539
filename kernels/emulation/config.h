// How the emulated device runs: what a test varies to make a wrong kernel or a missing wait show itself.
// From the environment as SONDE_EMULATION=order=random,seed=3,preempt=0.05,streams=random,protect=yes
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/emulation/sanitizer.h"

namespace sonde::emulation {

enum class Order : std::uint8_t { forward, reverse, random };  // of threads, warps and blocks
enum class Streams : std::uint8_t {
  lazy,    // work runs when something waits for it, and nothing else does
  random,  // the same, with work of other streams in between
  eager,   // work runs when it is submitted
};

struct Config {
  Order order = Order::forward;
  std::uint64_t seed = 1;
  double preempt = 0;  // chance of another thread's turn at a collective (race build: at an access)
  Streams streams = Streams::lazy;
  bool poison = true;    // fresh shared memory, allocations and copies in flight hold NaN
  bool protect = false;  // device memory faults when the host touches it
  bool strict = true;    // collectives of a warp must be one call in the source, made by whole masks
  bool trace = false;    // trace build: count sectors and bank conflicts
  int compute = 90;      // compute capability: 80 or 90, decides the limits and whether there is fp8
  int devices = 1;
  int driver = 13000;        // the CUDA version that the driver knows; 0: no driver
  std::int64_t network = 0;  // collectives after which it is lost; 0: it lasts
  std::int64_t memory = std::int64_t{SONDE_EMULATION_ASAN ? 1 : 16} << 30;  // bytes of device memory
};

// The settings in force; read once from the environment. Tests change them between launches.
Config& config();
Config parse_config(std::string_view text);  // throws UsageError that names the key

}  // namespace sonde::emulation
