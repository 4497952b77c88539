// gpu_launch: kernels in streams.
#pragma once

#include <memory>
#include <tuple>
#include <utility>

#include "kernels/emulation/block.h"
#include "kernels/emulation/runtime_shim.h"

namespace sonde::emulation {

// Checks the configuration as the real runtime does and queues the launch; call(data) is one thread of the
// kernel that is at `address`.
emulated::cudaError_t submit_launch(dim3 grid, dim3 block, std::size_t dynamic_bytes,
                                    emulated::cudaStream_t stream, void (*call)(void*),
                                    std::shared_ptr<void> arguments, const void* address);

}  // namespace sonde::emulation

namespace sonde::emulated {

template <class... Parameters, class... Arguments>
cudaError_t gpu_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_bytes,
                       cudaStream_t stream, Arguments&&... arguments) {
  struct Pack {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> values;
  };
  static_assert(sizeof(Pack) <= 4096, "a kernel's parameters have 4 KiB");
  static_assert((std::is_trivially_copyable_v<std::decay_t<Parameters>> && ...));
  auto pack = std::make_shared<Pack>(
      Pack{kernel, {static_cast<std::decay_t<Parameters>>(std::forward<Arguments>(arguments))...}});
  const auto call = [](void* data) {
    auto* pack_of_launch = static_cast<Pack*>(data);
    std::apply(pack_of_launch->kernel, pack_of_launch->values);
  };
  return emulation::submit_launch(grid, block, dynamic_bytes, stream, call, std::move(pack),
                                  reinterpret_cast<const void*>(kernel));
}

}  // namespace sonde::emulated
