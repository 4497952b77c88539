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

}  // namespace sonde::SONDE_GPU
