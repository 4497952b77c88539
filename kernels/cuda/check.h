// Every CUDA call goes through here: a failure is one Error that names what was being done.
#pragma once

#include "kernels/cuda/gpu.h"
#include "runtime/error.h"

namespace sonde::SONDE_GPU {

inline void check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  cudaGetLastError();                             // not to be seen twice
  const std::string detail = gpu_error_detail();  // of the emulation: which line, which thread
  fail_hint("a kernel's error shows at a later call; CUDA_LAUNCH_BLOCKING=1 shows the right one",
            "{}: CUDA says {} ({}){}{}", doing, cudaGetErrorString(error), cudaGetErrorName(error),
            detail.empty() ? "" : ": ", detail);
}

// A kernel in a stream; nothing where the grid is empty.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  check(gpu_launch(kernel, grid, block, shared_bytes, stream, std::forward<Arguments>(arguments)...), name);
}

}  // namespace sonde::SONDE_GPU
