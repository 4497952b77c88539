// CUDA's bfloat16 and half types and their conversions, on the runtime's. All conversions are explicit here,
// so that no arithmetic happens in float where CUDA's operators would round.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/emulation/vector_types.h"
#include "runtime/dtype.h"

namespace sonde::emulated {

struct __nv_bfloat16 {
  std::uint16_t bits;
  __nv_bfloat16() = default;
  constexpr explicit __nv_bfloat16(bf16 x) : bits(x.bits) {}
  explicit __nv_bfloat16(float x) : bits(std::isnan(x) ? std::uint16_t{0x7fff} : to_bf16(x).bits) {}
  explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};
struct __half {
  std::uint16_t bits;
  __half() = default;
  constexpr explicit __half(f16 x) : bits(x.bits) {}
  explicit __half(float x) : bits(std::isnan(x) ? std::uint16_t{0x7fff} : to_f16(x).bits) {}
  explicit operator float() const {  // 2^112 moves the exponent's bias, exactly and for subnormals, too
    const std::uint32_t magnitude = (bits & 0x7fffu) << 13, sign = (bits & 0x8000u) << 16;
    if (magnitude >= 0x0f800000u) return std::bit_cast<float>(sign | magnitude | 0x7f800000u);
    return std::bit_cast<float>(sign |
                                std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f));
  }
};
using half = __half;
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline float __bfloat162float(__nv_bfloat16 x) { return static_cast<float>(x); }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {static_cast<float>(v.x), static_cast<float>(v.y)};
}
inline std::uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(std::uint16_t bits) { return __nv_bfloat16(bf16{bits}); }

inline float __half2float(__half x) { return static_cast<float>(x); }
inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline float2 __half22float2(__half2 v) { return {static_cast<float>(v.x), static_cast<float>(v.y)}; }
inline std::uint16_t __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(std::uint16_t bits) { return __half(f16{bits}); }

// e4m3 (arXiv:2209.05433): 4 bits of exponent, bias 7, 3 of mantissa, no infinities, one NaN of each sign.
inline float from_e4m3(std::uint8_t bits) {
  const std::uint32_t sign = (bits & 128u) << 24, magnitude = bits & 127u;
  if (magnitude == 127) return std::bit_cast<float>(sign | 0x7fc00000u);
  // 2^120 moves the exponent's bias, exactly and for subnormals, too
  return std::bit_cast<float>(sign |
                              std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 20) * 0x1p120f));
}
// To nearest even; beyond 448, infinities too, to 448.
inline std::uint8_t to_e4m3(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x), magnitude = u & 0x7fffffffu;
  const auto sign = static_cast<std::uint8_t>(u >> 24 & 128u);
  if (magnitude > 0x7f800000u) return 127;
  if (magnitude >= 0x43e00000u) return sign | 126;  // 448
  if (magnitude < 0x3c800000u)                      // 2^-6: subnormal, in steps of 2^-9
    return sign | static_cast<std::uint8_t>(std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p9f));
  return sign |
         static_cast<std::uint8_t>((magnitude + 0x7ffffu + (magnitude >> 20 & 1u) - 0x3c000000u) >> 20);
}
inline std::uint16_t to_e4m3x2(float low, float high) {
  return static_cast<std::uint16_t>(to_e4m3(low) | to_e4m3(high) << 8);
}
inline float2 from_e4m3x2(std::uint16_t pair) {
  return {from_e4m3(static_cast<std::uint8_t>(pair)), from_e4m3(static_cast<std::uint8_t>(pair >> 8))};
}

// tf32 as mma reads it: a float whose lower 13 bits don't count. cvt.rna: half away from zero.
inline std::uint32_t float_to_tf32(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  return std::isfinite(x) ? (u + 0x1000u) & 0xffffe000u : u;
}

}  // namespace sonde::emulated
