#include "kernels/emulation/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "kernels/emulation/access.h"
#include "kernels/emulation/config.h"
#include "kernels/emulation/sanitizer.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

constexpr std::size_t kAlignment = 256, kRedZone = 256;  // CUDA's alignment; what must stay as it was
constexpr std::byte kRed{0xff};                          // NaN for those who read it
constexpr std::size_t kReturned = 1 << 20;               // larger holes give their pages back to the system

// What an allocation occupies: itself up to the next multiple of the alignment, and a red zone.
std::size_t footprint(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment + kRedZone;
}

}  // namespace

DeviceMemory& DeviceMemory::get() {
  static DeviceMemory memory;
  return memory;
}

DeviceMemory::DeviceMemory() { reserve(); }

void DeviceMemory::reserve() {
  total_ = static_cast<std::size_t>(config().memory);
  mapped_ = total_ + total_ / 4 + (1 << 20);  // room for red zones
  void* data =
      mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) fail("emulated device: the system does not reserve {} bytes of addresses", mapped_);
  base_ = static_cast<std::byte*>(data);
  poison_memory(base_, mapped_);
  holes_ = {{base_ + kRedZone, mapped_ - kRedZone}};
}

void* DeviceMemory::allocate(std::size_t bytes) {
  if (bytes > total_ - used_) return nullptr;
  const std::size_t need = footprint(bytes);
  const auto hole =
      std::find_if(holes_.begin(), holes_.end(), [&](const auto& h) { return h.second >= need; });
  if (hole == holes_.end()) return nullptr;
  std::byte* const data = hole->first;
  const std::size_t rest = hole->second - need;
  holes_.erase(hole);
  if (rest) holes_[data + need] = rest;
  live_[data] = bytes;
  used_ += bytes;
  const DeviceAccess access;
  unpoison_memory(data, need);
  std::memset(data + bytes, static_cast<int>(kRed), need - bytes);
  poison_memory(data + bytes, need - bytes);
  if (config().poison) std::memset(data, 0xff, bytes);
  forget_range(data, bytes);
  return data;
}

bool DeviceMemory::release(void* address) {
  auto* const data = static_cast<std::byte*>(address);
  const auto found = live_.find(data);
  if (found == live_.end()) return false;
  const std::size_t bytes = found->second, need = footprint(bytes);
  live_.erase(found);
  used_ -= bytes;
  const DeviceAccess access;
  unpoison_memory(data, need);
  if (need > kReturned) {
    madvise(data, need, MADV_DONTNEED);
  } else if (config().poison) {
    std::memset(data, 0xff, bytes);  // whoever still reads it gets NaN
  }
  poison_memory(data, need);
  auto hole = holes_.emplace(data, need).first;
  if (const auto next = std::next(hole); next != holes_.end() && data + hole->second == next->first) {
    hole->second += next->second;
    holes_.erase(next);
  }
  if (hole != holes_.begin())
    if (const auto before = std::prev(hole); before->first + before->second == data) {
      before->second += hole->second;
      holes_.erase(hole);
    }
  return true;
}

bool DeviceMemory::holds(const void* data, std::size_t bytes) const {
  auto* const at = static_cast<std::byte*>(const_cast<void*>(data));
  auto next = live_.upper_bound(at);
  if (next == live_.begin()) return false;
  const auto& [start, size] = *std::prev(next);
  const auto offset = static_cast<std::size_t>(at - start);
  return offset <= size && bytes <= size - offset && (offset < size || bytes == 0);
}

std::size_t DeviceMemory::size_of(const void* data) const {
  const auto found = live_.find(static_cast<std::byte*>(const_cast<void*>(data)));
  return found == live_.end() ? 0 : found->second;
}

bool DeviceMemory::in_range(const void* data) const {
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(data) - base_);
  return offset < mapped_;
}

std::string DeviceMemory::damage() const {
  if (SONDE_EMULATION_ASAN) return {};  // it sees the write itself
  const DeviceAccess access;
  for (const auto& [data, bytes] : live_)
    for (std::size_t i = bytes; i < footprint(bytes); ++i)
      if (data[i] != kRed)
        return fmt::format("an allocation of {} bytes was written {} bytes past its end", bytes, i - bytes);
  return {};
}

void DeviceMemory::clear() {
  while (!live_.empty()) release(live_.begin()->first);
}

void DeviceMemory::open() {
  if (opened_++ > 0 || !closed_) return;
  mprotect(base_, mapped_, PROT_READ | PROT_WRITE);
  closed_ = false;
}

void DeviceMemory::close() {
  if (--opened_ > 0 || !config().protect) return;
  mprotect(base_, mapped_, PROT_NONE);
  closed_ = true;
}

}  // namespace sonde::emulation
