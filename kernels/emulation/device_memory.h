// The emulated device's memory: one reserved range of addresses, allocations of exact size between red zones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace sonde::emulation {

class DeviceMemory {
 public:
  static DeviceMemory& get();

  void* allocate(std::size_t bytes);  // nullptr: no room
  bool release(void* data);           // false: not the start of an allocation
  // Whether all of [data, data + bytes) is in one live allocation.
  bool holds(const void* data, std::size_t bytes) const;
  std::size_t size_of(const void* data) const;  // of the allocation that starts there; 0: none does
  bool in_range(const void* data) const;        // of device addresses, allocated or not
  std::size_t total() const { return total_; }
  std::size_t used() const { return used_; }
  std::size_t allocations() const { return live_.size(); }
  // The first allocation whose red zone was written, as a sentence; empty: none.
  std::string damage() const;
  void clear();

  void open();  // kernels and copies may touch device memory between these two
  void close();

 private:
  DeviceMemory();
  void reserve();
  std::byte* base_ = nullptr;
  std::size_t total_ = 0, used_ = 0, mapped_ = 0;
  int opened_ = 0;
  bool closed_ = false;
  std::map<std::byte*, std::size_t> live_;   // start -> bytes
  std::map<std::byte*, std::size_t> holes_;  // start -> bytes, red zones of neighbours excluded
};

// While it lives, this thread works on behalf of the device.
struct DeviceAccess {
  DeviceAccess() { DeviceMemory::get().open(); }
  ~DeviceAccess() { DeviceMemory::get().close(); }
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace sonde::emulation
