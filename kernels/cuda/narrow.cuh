// Floats to 16 bits, to nearest even, as runtime/dtype.h rounds, NaN included.
#pragma once

#include "kernels/cuda/check.h"

namespace sonde::SONDE_GPU {

template <bool kBf16>
GPU_DEV std::uint16_t narrow(float x) {
  const std::uint32_t u = __float_as_uint(x);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  if constexpr (kBf16) {
    if (nan) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
    return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  } else {
    if (nan) return static_cast<std::uint16_t>(((u >> 16) & 0x8000u) | 0x7e00u);
    return __half_as_ushort(__float2half_rn(x));
  }
}

template <bool kBf16>
GPU_DEV uint2 narrow4(float4 v) {
  return {narrow<kBf16>(v.x) | std::uint32_t{narrow<kBf16>(v.y)} << 16,
          narrow<kBf16>(v.z) | std::uint32_t{narrow<kBf16>(v.w)} << 16};
}

}  // namespace sonde::SONDE_GPU
