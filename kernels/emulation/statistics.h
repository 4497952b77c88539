// What emulated kernels did since the last reset.
#pragma once

#include <atomic>
#include <cstdint>

namespace sonde::emulation {

struct Statistics {
  std::atomic<std::uint64_t> launches{0}, mma_flops{0};
};
inline Statistics& statistics() {
  static Statistics numbers;
  return numbers;
}

}  // namespace sonde::emulation
