// The one include of kernels and launchers: CUDA under nvcc, the CPU's emulation of it otherwise.
//
// Kernels and what calls them live in namespace sonde::SONDE_GPU: cuda in the real build, emulated in the
// other, so that both are in one binary. Device code says GPU_DEV for inline functions, GPU_SHARED(float[32],
// sums) and GPU_DYN_SMEM(bytes) for shared memory, gpu_launch(kernel, grid, block, dynamic_bytes, stream,
// arguments...) for
// <<<>>>; 16-byte accesses go through ldg128/stg128 (lds128/sts128), so that the emulation sees one request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__) || defined(SONDE_REAL_CUDA)
#define GPU_EMULATED 0
#ifndef SONDE_GPU
#define SONDE_GPU cuda
#endif
#include "kernels/cuda/device_ops.h"
#else
#define GPU_EMULATED 1
#ifndef SONDE_GPU
#define SONDE_GPU emulated
#endif
#include "kernels/emulation/emulation.h"
#endif

namespace sonde::SONDE_GPU::gpu {

using bf16 = __nv_bfloat16;
using f16 = __half;

}  // namespace sonde::SONDE_GPU::gpu

namespace sonde::SONDE_GPU {

GPU_DEV float to_float(float x) { return x; }
GPU_DEV float to_float(gpu::bf16 x) { return __bfloat162float(x); }
GPU_DEV float to_float(gpu::f16 x) { return __half2float(x); }

template <class T>
GPU_DEV T from_float(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, gpu::bf16>) {
    return __float2bfloat16_rn(x);
  } else {
    static_assert(std::is_same_v<T, gpu::f16>);
    return __float2half_rn(x);
  }
}

#if GPU_EMULATED || \
    defined(__CUDACC__)  // device code, which a plain C++ source of the real build doesn't have
// Two values in a register as mma and ldmatrix hold them, the first in the lower half.
template <class T>
GPU_DEV std::uint32_t pack2(float low, float high) {
  const T a = from_float<T>(low), b = from_float<T>(high);
  if constexpr (std::is_same_v<T, gpu::bf16>) {
    return std::uint32_t{__bfloat16_as_ushort(a)} | std::uint32_t{__bfloat16_as_ushort(b)} << 16;
  } else {
    return std::uint32_t{__half_as_ushort(a)} | std::uint32_t{__half_as_ushort(b)} << 16;
  }
}
template <class T>
GPU_DEV float2 unpack2(std::uint32_t pair) {
  if constexpr (std::is_same_v<T, gpu::bf16>) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
  } else {
    return {__half2float(__ushort_as_half(static_cast<unsigned short>(pair))),
            __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)))};
  }
}
// d += a b, m16n8k16 with float sums.
template <class T>
GPU_DEV void mma_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, gpu::bf16>) {
    mma_bf16_16816(d, a, b0, b1);
  } else {
    static_assert(std::is_same_v<T, gpu::f16>);
    mma_f16_16816(d, a, b0, b1);
  }
}
#endif

}  // namespace sonde::SONDE_GPU
