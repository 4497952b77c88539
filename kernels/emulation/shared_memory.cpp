#include "kernels/emulation/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/sanitizer.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

constexpr std::size_t kRedZone = SONDE_EMULATION_ASAN ? 32 : 0;  // before every array

std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

void fresh(std::byte* data, std::size_t bytes) {
  unpoison_memory(data, bytes);
  if (config().poison) std::memset(data, 0xff, bytes);  // NaN in every float type
}

}  // namespace

void begin_shared_memory(Block& b) {
  b.arrays.clear();
  b.dynamic_bytes = b.launch.dynamic_bytes;
  b.shared_limit = b.launch.shared_limit;
  b.shared_used = b.dynamic_bytes;
  poison_memory(b.shared, kSharedArena);
  fresh(b.shared, b.dynamic_bytes);
}

bool in_shared_memory(const void* data, std::size_t bytes) {
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(data) - block->shared);
  return offset < block->shared_used && bytes <= block->shared_used - offset;
}

std::byte* shared_array(const void* tag, std::size_t bytes, std::size_t alignment, Source where) {
  Block& b = *block;
  for (const SharedArray& array : b.arrays)
    if (array.tag == tag) return array.data;
  const std::size_t offset = round_up(b.shared_used, std::max<std::size_t>(alignment, 16));
  const std::size_t red_zones = kRedZone * b.arrays.size();
  if (offset + bytes > b.shared_limit + red_zones)
    raise_fault(
        kErrorInvalidValue, where,
        fmt::format(
            "{} bytes of shared memory do not fit: {} are in use, {} of them dynamic, the launch has {}",
            bytes, b.shared_used - red_zones, b.dynamic_bytes, b.shared_limit));
  std::byte* data = b.shared + offset + kRedZone;
  b.shared_used = offset + kRedZone + bytes;
  b.arrays.push_back({tag, data});
  fresh(data, bytes);
  return data;
}

}  // namespace sonde::emulation
