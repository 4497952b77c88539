#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "kernels/emulation/access.h"
#include "kernels/emulation/device_memory.h"
#include "kernels/emulation/runtime_call.h"

namespace sonde::emulated {
namespace {

using emulation::DeviceMemory;
using emulation::Engine;
using emulation::Fault;
using emulation::runtime_call;
using emulation::Stream;
using emulation::stream_call;
using emulation::Work;

// Pinned host memory: what a copy may read or write late.
struct Pinned {
  std::size_t bytes;
  bool ours;  // from cudaMallocHost
};
std::map<const std::byte*, Pinned>& pinned() {
  static std::map<const std::byte*, Pinned> ranges;
  return ranges;
}
bool is_pinned(const void* data, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  auto next = pinned().upper_bound(at);
  if (next == pinned().begin()) return false;
  const auto& [start, range] = *std::prev(next);
  return at + bytes <= start + range.bytes;
}

bool on_device(const void* data) { return DeviceMemory::get().in_range(data); }

// Which way a copy goes, or an error: a side that must be on the device lies in one allocation there.
cudaError_t check_copy(const void* to, const void* from, std::size_t to_bytes, std::size_t from_bytes,
                       cudaMemcpyKind& kind) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  const int direction = 2 * on_device(from) + on_device(to);
  constexpr cudaMemcpyKind kKinds[] = {cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost,
                                       cudaMemcpyDeviceToDevice};
  if (kind == cudaMemcpyDefault) kind = kKinds[direction];
  if (kind != kKinds[direction]) return cudaErrorInvalidValue;
  if (on_device(to) && !DeviceMemory::get().holds(to, to_bytes)) return cudaErrorInvalidValue;
  if (on_device(from) && !DeviceMemory::get().holds(from, from_bytes)) return cudaErrorInvalidValue;
  if (!to || !from) return cudaErrorInvalidValue;
  return cudaSuccess;
}

struct Copy {
  std::byte* to;
  const std::byte* from;
  std::size_t to_pitch, from_pitch, width, height;
  std::size_t to_bytes() const { return (height - 1) * to_pitch + width; }
  std::size_t from_bytes() const { return (height - 1) * from_pitch + width; }
};

Fault run_copy(const Copy& copy) {  // memory may have been freed in the meantime
  const auto lost = [](const std::byte* data, std::size_t bytes) {
    return on_device(data) && !DeviceMemory::get().holds(data, bytes);
  };
  if (lost(copy.to, copy.to_bytes()) || lost(copy.from, copy.from_bytes()))
    return {cudaErrorIllegalAddress, "a copy to or from device memory that was freed before it ran"};
  for (std::size_t row = 0; row < copy.height; ++row) {
    std::byte* to = copy.to + row * copy.to_pitch;
    const std::byte* from = copy.from + row * copy.from_pitch;
    emulation::record_range(from, copy.width, emulation::Access::read);
    emulation::record_range(to, copy.width, emulation::Access::write);
    std::memmove(to, from, copy.width);
  }
  return {};
}

// Pageable memory is read when the copy is called, and written before the call returns.
cudaError_t submit_copy(Engine& engine, Stream* stream, Copy copy, cudaMemcpyKind kind) {
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (copy.to_pitch < copy.width || copy.from_pitch < copy.width) return cudaErrorInvalidValue;
  if (const auto error = check_copy(copy.to, copy.from, copy.to_bytes(), copy.from_bytes(), kind))
    return error;
  Work work{"memcpy", nullptr, {}};
  if (copy.height == 1) work.target = {copy.to, copy.width};
  const bool late_source = on_device(copy.from) || is_pinned(copy.from, copy.from_bytes()) || stream->capture;
  if (late_source) {
    work.run = [copy] { return run_copy(copy); };
  } else {
    auto staged = std::make_shared<std::vector<std::byte>>(copy.from, copy.from + copy.from_bytes());
    work.run = [copy, staged]() mutable {
      copy.from = staged->data();
      return run_copy(copy);
    };
  }
  const bool late_target = on_device(copy.to) || is_pinned(copy.to, copy.to_bytes());
  if (!late_target) work.target = {};
  const auto error = engine.submit(stream, std::move(work));
  if (!late_target && !stream->capture) engine.finish(stream);
  return error;
}

Copy one_row(void* to, const void* from, std::size_t bytes) {
  return {static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes, bytes, bytes, 1};
}

cudaError_t submit_memset(Engine& engine, Stream* stream, void* to, int value, std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  if (!DeviceMemory::get().holds(to, bytes)) return cudaErrorInvalidValue;
  return engine.submit(stream,
                       {"memset",
                        [=]() -> Fault {
                          if (!DeviceMemory::get().holds(to, bytes))
                            return {cudaErrorIllegalAddress, "memset of device memory that was freed"};
                          emulation::record_range(to, bytes, emulation::Access::write);
                          std::memset(to, value, bytes);
                          return {};
                        },
                        {to, bytes}});
}

}  // namespace

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  return runtime_call([&](Engine&) {
    *total = DeviceMemory::get().total();
    *free = *total - DeviceMemory::get().used();
    return cudaSuccess;
  });
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  return runtime_call([&](Engine& engine) {
    if (!data) return cudaErrorInvalidValue;
    if (engine.capturing()) return cudaErrorStreamCaptureUnsupported;
    *data = nullptr;
    if (bytes == 0) return cudaSuccess;
    *data = DeviceMemory::get().allocate(bytes);
    return *data ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}
cudaError_t cudaFree(void* data) {
  return runtime_call([&](Engine& engine) {
    if (!data) return cudaSuccess;
    if (engine.capturing()) return cudaErrorStreamCaptureUnsupported;
    engine.finish_all();
    if (const std::string damage = DeviceMemory::get().damage(); !damage.empty())
      engine.fail({cudaErrorIllegalAddress, damage});
    return DeviceMemory::get().release(data) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

// The address is known at once; the contents are undefined until the stream gets here.
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (stream->capture) return cudaErrorNotSupported;  // memory nodes are not modelled
    *data = nullptr;
    if (bytes == 0) return cudaSuccess;
    *data = DeviceMemory::get().allocate(bytes);
    if (!*data) {  // frees that are still queued may make room
      engine.finish_all();
      *data = DeviceMemory::get().allocate(bytes);
    }
    if (!*data) return cudaErrorMemoryAllocation;
    return engine.submit(stream, {"malloc",
                                  [at = *data, bytes] {
                                    emulation::record_range(at, bytes, emulation::Access::write);
                                    return Fault{};
                                  },
                                  {*data, bytes}});
  });
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (!data) return cudaSuccess;
    if (stream->capture) return cudaErrorNotSupported;
    if (!DeviceMemory::get().holds(data, 1)) return cudaErrorInvalidValue;
    return engine.submit(stream, {"free",
                                  [data, bytes = DeviceMemory::get().size_of(data)]() -> Fault {
                                    emulation::record_range(data, bytes, emulation::Access::write);
                                    if (DeviceMemory::get().release(data)) return {};
                                    return {cudaErrorIllegalAddress, "device memory was freed twice"};
                                  },
                                  {}});
  });
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  return runtime_call([&](Engine& engine) {
    if (engine.capturing()) return cudaErrorStreamCaptureUnsupported;
    *data = nullptr;
    if (bytes == 0) return cudaSuccess;
    void* memory = nullptr;
    if (posix_memalign(&memory, 4096, bytes) != 0) return cudaErrorMemoryAllocation;
    if (emulation::config().poison) std::memset(memory, 0xff, bytes);
    pinned()[static_cast<std::byte*>(memory)] = {bytes, true};
    *data = memory;
    return cudaSuccess;
  });
}
cudaError_t cudaMallocHost(void** data, std::size_t bytes, unsigned flags) {
  return cudaHostAlloc(data, bytes, flags);
}
cudaError_t cudaFreeHost(void* data) {
  return runtime_call([&](Engine& engine) {
    if (!data) return cudaSuccess;
    const auto found = pinned().find(static_cast<std::byte*>(data));
    if (found == pinned().end() || !found->second.ours) return cudaErrorInvalidValue;
    engine.finish_all();
    pinned().erase(found);
    std::free(data);
    return cudaSuccess;
  });
}
cudaError_t cudaHostRegister(void* data, std::size_t bytes, unsigned) {
  return runtime_call([&](Engine&) {
    if (!data || bytes == 0) return cudaErrorInvalidValue;
    if (is_pinned(data, 1)) return cudaErrorHostMemoryAlreadyRegistered;
    pinned()[static_cast<std::byte*>(data)] = {bytes, false};
    return cudaSuccess;
  });
}
cudaError_t cudaHostUnregister(void* data) {
  return runtime_call([&](Engine& engine) {
    const auto found = pinned().find(static_cast<std::byte*>(data));
    if (found == pinned().end() || found->second.ours) return cudaErrorHostMemoryNotRegistered;
    engine.finish_all();
    pinned().erase(found);
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  return runtime_call([&](Engine& engine) {
    void* pointer = const_cast<void*>(data);
    *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, pointer};
    if (DeviceMemory::get().holds(data, 1))
      *attributes = {cudaMemoryTypeDevice, engine.current_device, pointer, nullptr};
    if (is_pinned(data, 1)) *attributes = {cudaMemoryTypeHost, engine.current_device, pointer, pointer};
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    return submit_copy(engine, stream, one_row(to, from, bytes), kind);
  });
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    return submit_copy(engine, stream,
                       {static_cast<std::byte*>(to), static_cast<const std::byte*>(from), to_pitch,
                        from_pitch, width, height},
                       kind);
  });
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return stream_call(nullptr, [&](Engine& engine, Stream* stream) {
    if (engine.capturing()) return cudaErrorStreamCaptureUnsupported;
    const auto error = submit_copy(engine, stream, one_row(to, from, bytes), kind);
    engine.finish(stream);
    return error;
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    return submit_memset(engine, stream, to, value, bytes);
  });
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t copy_to_symbol(void* symbol, std::size_t size, const void* from, std::size_t bytes,
                           std::size_t offset, cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (offset > size || bytes > size - offset) return cudaErrorInvalidValue;
    const auto* start = static_cast<const std::byte*>(from);
    auto staged = std::make_shared<std::vector<std::byte>>(start, start + bytes);
    return engine.submit(stream, {"memcpy to symbol",
                                  [=] {
                                    std::copy(staged->begin(), staged->end(),
                                              static_cast<std::byte*>(symbol) + offset);
                                    return Fault{};
                                  },
                                  {}});
  });
}

}  // namespace sonde::emulated

namespace sonde::emulation {

void free_pinned_memory() {
  for (const auto& [data, range] : emulated::pinned())
    if (range.ours) std::free(const_cast<std::byte*>(data));
  emulated::pinned().clear();
}

}  // namespace sonde::emulation
