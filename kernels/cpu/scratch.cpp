#include "kernels/cpu/scratch.h"

#include "runtime/tensor.h"

namespace sonde::cpu {

std::byte* thread_scratch(std::int64_t bytes) {
  thread_local Buffer memory;
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  return memory.data();
}

}  // namespace sonde::cpu
