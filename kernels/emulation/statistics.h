// What emulated kernels did since the program began.
#pragma once

#include <atomic>
#include <cstdint>

namespace sonde::emulation {

struct Statistics {
  std::atomic<std::uint64_t> launches{0}, mma_flops{0}, graphs_made{0}, graphs_run{0};
};
inline Statistics& statistics() {
  static Statistics numbers;
  return numbers;
}

}  // namespace sonde::emulation
