// CUDA's device functions of one thread: arithmetic, bits, atomics.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/emulation/block.h"
#include "kernels/emulation/error_codes.h"

namespace sonde::emulated {

// ---- float. The product is exact in double and the sum rounds there first: once in 2^29 the last bit
// differs.
inline float fmaf(float a, float b, float c) { return static_cast<float>(double{a} * double{b} + double{c}); }
inline float __fmaf_rn(float a, float b, float c) { return emulated::fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __frsqrt_rn(float a) { return static_cast<float>(1.0 / std::sqrt(double{a})); }
inline float rsqrtf(float a) { return static_cast<float>(1.0 / std::sqrt(double{a})); }
inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
// The approximations of the hardware, here as exact as the C library.
inline float __expf(float a) { return std::exp(a); }
inline float __exp10f(float a) { return ::exp10f(a); }
inline float __logf(float a) { return std::log(a); }
inline float __log2f(float a) { return std::log2(a); }
inline float __sinf(float a) { return std::sin(a); }
inline float __cosf(float a) { return std::cos(a); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float a) { return a > 1 ? 1.0f : a > 0 ? a : 0.0f; }
inline float exp2_fast(float a) { return std::exp2(a); }  // ex2.approx.ftz
inline float tanh_fast(float a) { return std::tanh(a); }  // tanh.approx

// ---- conversions
inline int __float2int_rn(float a) { return static_cast<int>(std::nearbyint(a)); }
inline int __float2int_rz(float a) { return static_cast<int>(a); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
inline long long __double_as_longlong(double a) { return std::bit_cast<long long>(a); }
inline double __longlong_as_double(long long a) { return std::bit_cast<double>(a); }

// ---- bits
inline int __popc(unsigned a) { return std::popcount(a); }
inline int __popcll(unsigned long long a) { return std::popcount(a); }
inline int __clz(int a) { return std::countl_zero(static_cast<unsigned>(a)); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline unsigned __brev(unsigned a) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (a >> i & 1) << (31 - i);
  return r;
}
// Four bytes of the eight in (a, b), chosen by the nibbles of s; bit 3 of a nibble repeats the sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  const std::uint64_t bytes = std::uint64_t{b} << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned nibble = s >> (4 * i) & 15, byte = bytes >> (8 * (nibble & 7)) & 255;
    r |= (nibble & 8 ? (byte >> 7) * 255 : byte) << (8 * i);
  }
  return r;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) << (shift & 31) >> 32);
}
inline int __dp4a(int a, int b, int c) {  // c + the dot product of four signed bytes
  for (int i = 0; i < 32; i += 8) c += static_cast<std::int8_t>(a >> i) * static_cast<std::int8_t>(b >> i);
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 255) * (b >> i & 255);
  return c;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }

#define SONDE_MIN_MAX(T)                           \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
SONDE_MIN_MAX(int)
SONDE_MIN_MAX(unsigned)
SONDE_MIN_MAX(long)
SONDE_MIN_MAX(unsigned long)
SONDE_MIN_MAX(long long)
SONDE_MIN_MAX(unsigned long long)
#undef SONDE_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

// ---- atomics, relaxed as CUDA's are; each returns the old value
template <class T, class F>
T update_atomically(T* at, F f) {
  std::atomic_ref<T> cell(*at);
  T old = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(old, f(old), std::memory_order_relaxed)) {}
  return old;
}
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return update_atomically(at, [&](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicSub(T* at, std::type_identity_t<T> value) {
  return update_atomically(at, [&](T old) { return static_cast<T>(old - value); });
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  return update_atomically(at, [&](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  return update_atomically(at, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomicAnd(T* at, std::type_identity_t<T> value) {
  return update_atomically(at, [&](T old) { return old & value; });
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  return update_atomically(at, [&](T old) { return old | value; });
}
inline unsigned atomicInc(unsigned* at, unsigned last) {  // counts 0 to last, then starts again
  return update_atomically(at, [&](unsigned old) { return old >= last ? 0 : old + 1; });
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).exchange(value, std::memory_order_relaxed);
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*at).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}

[[noreturn]] inline void __trap(emulation::Source where = emulation::Source::here()) {
  emulation::raise_fault(emulation::kErrorLaunchFailure, where, "__trap()");
}

}  // namespace sonde::emulated
