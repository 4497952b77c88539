// Vectors of this translation unit's instruction set. Included only by isa_*.cpp: everything is in an
// anonymous namespace and no other header of ours comes with it, so no code of one instruction set can leak
// into another.
#pragma once

#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define SONDE_INLINE inline __attribute__((always_inline))

namespace sonde::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kW = 16;  // floats of a vector
#elif defined(__AVX2__)
constexpr int kW = 8;
#else
constexpr int kW = 4;
#endif

typedef float Vec __attribute__((vector_size(kW * 4)));
typedef std::int32_t IVec __attribute__((vector_size(kW * 4)));
typedef std::uint32_t UVec __attribute__((vector_size(kW * 4)));

template <class V = Vec>
SONDE_INLINE V load(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
SONDE_INLINE void store(void* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
SONDE_INLINE Vec splat(float x) {
#if defined(__AVX512F__)
  return (Vec)_mm512_set1_ps(x);
#elif defined(__AVX2__)
  return (Vec)_mm256_set1_ps(x);
#else
  return Vec{x, x, x, x};
#endif
}

// a * b + c, rounded once.
SONDE_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  Vec y;
  for (int i = 0; i < kW; ++i) y[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return y;
#endif
}

// bfloat16 bits in the upper half of each lane, rounded to nearest even, NaN kept.
template <class F, class U>
SONDE_INLINE U bf16_bits(F x) {
  const U u = (U)x;
  const U rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const U nan = (U)((u & 0x7fffffffu) > 0x7f800000u);
  return ((rounded & ~nan) | ((u | 0x400000u) & nan)) & 0xffff0000u;
}

SONDE_INLINE Vec abs(Vec x) { return (Vec)((UVec)x & 0x7fffffffu); }

// exp to about 1 ulp over all floats: 2^n times a Taylor polynomial on |r| <= ln(2) / 2. Overflows to inf,
// underflows through the subnormals to 0, keeps NaN.
SONDE_INLINE Vec exp(Vec x) {
  const Vec lo = splat(-104.0f), hi = splat(89.0f), magic = splat(0x1.8p23f);
  x = x < lo ? lo : x;
  x = x > hi ? hi : x;
  const Vec shifted = fma(x, splat(0x1.715476p+0f), magic);
  const Vec n = shifted - magic;
  Vec r = fma(n, splat(-0x1.62e400p-1f), x);  // ln 2 in two parts; the first has 9 trailing zero bits
  r = fma(n, splat(-0x1.7f7d1cp-20f), r);
  Vec p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r * r, r) + 1.0f;
  const IVec exponent = (IVec)shifted - (IVec)magic, half = exponent >> 1;
  return p * (Vec)((half + 127) << 23) * (Vec)((exponent - half + 127) << 23);
}

// tanh to about 2 ulp: an odd polynomial near 0, 1 - 2 / (exp(2x) + 1) beyond.
SONDE_INLINE Vec tanh(Vec x) {
  const Vec z = x * x, a = abs(x);
  Vec p = splat(-5.70498872745e-3f);
  p = fma(p, z, splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  const Vec small = fma(p * z, x, x), large = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  return a < 0.625f ? small : x < 0.0f ? -large : large;
}

// Phi(x), the normal distribution, to about 3e-7 of itself: exp(-x^2 / 2) times a polynomial in
// 1 / (1 + 0.4 |x| / sqrt 2), fitted to erfc(u) exp(u^2) on u = |x| / sqrt 2 in [0, 10].
SONDE_INLINE Vec normal_cdf(Vec x) {
  const Vec a = abs(x), t = 1.0f / fma(a, splat(0.282842712f), splat(1.0f));
  Vec p = splat(0.02869585156f);
  p = fma(p, t, splat(-0.07474943995f));
  p = fma(p, t, splat(-0.06368543953f));
  p = fma(p, t, splat(0.2757873535f));
  p = fma(p, t, splat(-0.06856620312f));
  p = fma(p, t, splat(0.2686373889f));
  p = fma(p, t, splat(0.177416414f));
  p = fma(p, t, splat(0.2313551307f));
  p = fma(p, t, splat(0.2250825763f));
  p = fma(p, t, splat(2.640507228e-5f));
  const Vec tail = 0.5f * exp(-0.5f * x * x) * p;
  return x < 0.0f ? tail : 1.0f - tail;
}

}  // namespace
}  // namespace sonde::cpu
