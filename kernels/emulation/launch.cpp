#include "kernels/emulation/launch.h"

#include "kernels/emulation/limits.h"
#include "kernels/emulation/runtime_call.h"
#include "kernels/emulation/statistics.h"

namespace sonde::emulation {
namespace {

cudaError_t check_configuration(dim3 grid, dim3 block) {
  const bool grid_fits =
      grid.x && grid.y && grid.z && grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535;
  const bool block_fits = block.x && block.y && block.z && block.x <= 1024 && block.y <= 1024 &&
                          block.z <= 64 && std::uint64_t{block.x} * block.y * block.z <= kMaxThreads;
  return grid_fits && block_fits ? cudaError_t::cudaSuccess : cudaError_t::cudaErrorInvalidConfiguration;
}

}  // namespace

cudaError_t submit_launch(dim3 grid, dim3 block_size, std::size_t dynamic_bytes,
                          emulated::cudaStream_t handle, void (*call)(void*), std::shared_ptr<void> arguments,
                          const void* address) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (const auto error = check_configuration(grid, block_size); error != cudaError_t::cudaSuccess)
      return error;
    // Beyond 48 KiB gpu_launch raises the kernel's allowance, as its twin under nvcc does.
    if (dynamic_bytes > limits().shared_per_block) return cudaError_t::cudaErrorInvalidValue;
    Launch launch{grid, block_size, dynamic_bytes, limits().shared_per_block, call, nullptr, address};
    return engine.submit(stream, {"kernel",
                                  [launch, arguments]() mutable {
                                    launch.arguments = arguments.get();
                                    ++statistics().launches;
                                    return run_grid(launch);
                                  },
                                  {}});
  });
}

}  // namespace sonde::emulation

namespace sonde::emulated {

cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return emulation::runtime_call([&](emulation::Engine&) {
    if (!kernel) return cudaErrorInvalidDeviceFunction;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
      return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
    // gpu_launch raises the limit by itself, so the value need not be kept
    if (value < 0 || static_cast<std::size_t>(value) > emulation::limits().shared_per_block)
      return cudaErrorInvalidValue;
    return cudaSuccess;
  });
}

}  // namespace sonde::emulated
