// CUDA for g++ and clang++: what kernels and launchers need, on the CPU. Included through kernels/cuda/gpu.h.
#pragma once

#include "kernels/emulation/barrier.h"
#include "kernels/emulation/intrinsics.h"
#include "kernels/emulation/launch.h"
#include "kernels/emulation/matrix_ops.h"
#include "kernels/emulation/memory_ops.h"
#include "kernels/emulation/runtime_shim.h"
#include "kernels/emulation/shared_memory.h"
#include "kernels/emulation/small_floats.h"
#include "kernels/emulation/warp_ops.h"

// Plain __shared__ stays unknown: it would be one array for all blocks. GPU_SHARED is the way.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define GPU_DEV inline __attribute__((always_inline))
#define threadIdx (::sonde::emulation::block->fiber->thread)
#define blockIdx (::sonde::emulation::block->index)
#define blockDim (::sonde::emulation::block->size)
#define gridDim (::sonde::emulation::block->grid)
#define warpSize 32
