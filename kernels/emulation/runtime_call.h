// What every call of the emulated runtime does first and last.
#pragma once

#include "kernels/emulation/engine.h"

namespace sonde::emulation {

// Runs f under the engine's lock. An earlier kernel's error comes first; an error is remembered for
// cudaGetLastError.
template <class F>
cudaError_t runtime_call(F&& f) {
  Engine& engine = Engine::get();
  const std::lock_guard lock(engine.mutex);
  if (engine.sticky() != cudaError_t::cudaSuccess) return engine.sticky();
  cudaError_t error = f(engine);
  if (engine.sticky() != cudaError_t::cudaSuccess) error = engine.sticky();
  if (error != cudaError_t::cudaSuccess && error != cudaError_t::cudaErrorNotReady) {
    if (error != engine.sticky()) engine.detail.clear();
    engine.last_error = error;
  }
  return error;
}

// The same with a stream's handle checked.
template <class F>
cudaError_t stream_call(Stream* handle, F&& f) {
  return runtime_call([&](Engine& engine) {
    Stream* stream = engine.resolve(handle);
    if (!stream) return cudaError_t::cudaErrorInvalidResourceHandle;
    return f(engine, stream);
  });
}

}  // namespace sonde::emulation
