// What the emulated GPU has room for: an H100's limits, or an A100's with compute=80.
#pragma once

#include <cstddef>

namespace sonde::emulation {

struct Limits {
  int compute;
  std::size_t shared_per_block, shared_per_multiprocessor;
  int multiprocessors, l2_bytes;
};
const Limits& limits();

}  // namespace sonde::emulation
