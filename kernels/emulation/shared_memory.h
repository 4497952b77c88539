// A block's shared memory: the dynamic part first, then each static array when a thread first names it.
#pragma once

#include <type_traits>

#include "kernels/emulation/block.h"

namespace sonde::emulation {

inline constexpr std::size_t kSharedArena = 512 << 10;  // more than any GPU has, with room for red zones

void begin_shared_memory(Block& b);
bool in_shared_memory(const void* data, std::size_t bytes);  // in use by this block
std::byte* shared_array(const void* tag, std::size_t bytes, std::size_t alignment, Source where);

}  // namespace sonde::emulation

// A static array is told by the address of a variable of the function (template instance) that declares it.
#define GPU_SHARED(T, name)                                                                  \
  static char name##_tag;                                                                    \
  auto& name = *reinterpret_cast<std::type_identity_t<T>*>(::sonde::emulation::shared_array( \
      &name##_tag, sizeof(std::type_identity_t<T>), alignof(std::type_identity_t<T>),        \
      ::sonde::emulation::Source::here()))
#define GPU_DYN_SMEM(name) \
  unsigned char* const name = reinterpret_cast<unsigned char*>(::sonde::emulation::block->shared)
