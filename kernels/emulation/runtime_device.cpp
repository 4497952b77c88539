#include <cstdio>

#include "kernels/emulation/device_memory.h"
#include "kernels/emulation/launch.h"
#include "kernels/emulation/limits.h"
#include "kernels/emulation/runtime_call.h"

namespace sonde::emulation {

const Limits& limits() {
  static constexpr Limits kA100{80, 163 << 10, 164 << 10, 108, 40 << 20},
      kH100{90, 227 << 10, 228 << 10, 132, 50 << 20};
  return config().compute >= 90 ? kH100 : kA100;
}

}  // namespace sonde::emulation

namespace sonde::emulated {

using emulation::Engine;
using emulation::runtime_call;

namespace {
constexpr int kRuntimeVersion = 13000;
}

cudaError_t cudaGetDeviceCount(int* count) {
  if (!count) return cudaErrorInvalidValue;
  // The count stays as it was.
  if (emulation::config().driver < kRuntimeVersion) return cudaErrorInsufficientDriver;
  if (emulation::config().devices == 0) return cudaErrorNoDevice;
  *count = emulation::config().devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  return runtime_call([&](Engine& engine) {
    *device = engine.current_device;
    return cudaSuccess;
  });
}
cudaError_t cudaSetDevice(int device) {
  return runtime_call([&](Engine& engine) {
    if (device < 0 || device >= emulation::config().devices) return cudaErrorInvalidDevice;
    engine.current_device = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device < 0 || device >= emulation::config().devices) return cudaErrorInvalidDevice;
  const auto& limits = emulation::limits();
  *p = {};
  std::snprintf(p->name, sizeof p->name, "emulated GPU, compute %d.%d", limits.compute / 10,
                limits.compute % 10);
  p->totalGlobalMem = emulation::DeviceMemory::get().total();
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = limits.shared_per_block;
  p->sharedMemPerMultiprocessor = limits.shared_per_multiprocessor;
  p->major = limits.compute / 10;
  p->minor = limits.compute % 10;
  p->multiProcessorCount = limits.multiprocessors;
  p->warpSize = emulation::kWarpLanes;
  p->maxThreadsPerBlock = emulation::kMaxThreads;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->l2CacheSize = limits.l2_bytes;
  p->asyncEngineCount = 3;
  p->concurrentKernels = p->unifiedAddressing = 1;
  p->pciBusID = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const auto error = cudaGetDeviceProperties(&p, device)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) { return *version = emulation::config().driver, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = kRuntimeVersion, cudaSuccess; }

cudaError_t cudaDeviceSynchronize() {
  return runtime_call([](Engine& engine) {
    if (engine.capturing()) return cudaErrorStreamCaptureUnsupported;
    engine.finish_all();
    if (const std::string damage = emulation::DeviceMemory::get().damage(); !damage.empty())
      engine.fail({cudaErrorIllegalAddress, damage});
    return cudaSuccess;
  });
}
cudaError_t cudaDeviceReset() {
  Engine& engine = Engine::get();
  const std::lock_guard lock(engine.mutex);
  engine.reset();
  return cudaSuccess;
}

}  // namespace sonde::emulated
