// Functions over one row. Elementwise ones treat lanes alike; sums run over 64 fixed lanes that fold in one
// order, so every instruction set gives the same bits.
#pragma once

#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kernel_table.h"

namespace sonde::cpu {
namespace {

// y[i] = f(x[i]...), the tail through a padded vector. y may be one of the xs.
template <class F, class... X>
SONDE_INLINE void map(float* y, std::int64_t n, F f, const X*... x) {
  std::int64_t i = 0;
  for (; i + kW <= n; i += kW) store(y + i, f(load(x + i)...));
  if (i == n) return;
  const auto rest = static_cast<unsigned long>(n - i) * sizeof(float);
  const auto partial = [&](const float* p) {
    float lanes[kW] = {};
    __builtin_memcpy(lanes, p + i, rest);
    return load(lanes);
  };
  const Vec last = f(partial(x)...);
  __builtin_memcpy(y + i, &last, rest);
}

// Folds 64 lanes, started at `zero`, with combine(lane, x...): value i goes to lane i % 64. Then the lanes by
// halves. So many keep the adders busy, and a sum's rounding error small.
constexpr int kLanes = 64, kGroup = 16, kGroups = kLanes / kGroup, kParts = kGroup / kW;
template <class F, class G, class... X>
SONDE_INLINE float fold(std::int64_t n, float zero, F combine, G join, float padding, const X*... x) {
  Vec lanes[kGroups][kParts];
  for (auto& group : lanes)
    for (Vec& part : group) part = splat(zero);
  std::int64_t i = 0;
  const auto whole_group = [&](Vec(&group)[kParts]) {
    for (int part = 0; part < kParts; ++part) group[part] = combine(group[part], load(x + i + part * kW)...);
    i += kGroup;
  };
  while (i + kLanes <= n)
    for (auto& group : lanes) whole_group(group);
  int next = 0;
  while (i + kGroup <= n) whole_group(lanes[next++]);
  if (i < n) {
    const auto rest = static_cast<unsigned long>(n - i) * sizeof(float);
    const auto partial = [&](const float* p, int part) {
      float padded[kGroup];
      for (float& value : padded) value = padding;
      __builtin_memcpy(padded, p + i, rest);
      return load(padded + part * kW);
    };
    for (int part = 0; part < kParts; ++part)
      lanes[next][part] = combine(lanes[next][part], partial(x, part)...);
  }
  float all[kGroup];
  for (int part = 0; part < kParts; ++part)
    store(all + part * kW, join(join(lanes[0][part], lanes[2][part]), join(lanes[1][part], lanes[3][part])));
  for (int half = kGroup / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) all[lane] = join(all[lane], all[lane + half]);
  return all[0];
}
const auto kPlus = [](auto a, auto b) { return a + b; };

float sum_squares(const float* x, std::int64_t n) {
  return fold(
      n, 0.0f, [](Vec sum, Vec v) { return fma(v, v, sum); }, kPlus, 0.0f, x);
}
float sum_squares_about(const float* x, float mean, std::int64_t n) {
  return fold(
      n, 0.0f, [=](Vec sum, Vec v) { return fma(v - mean, v - mean, sum); }, kPlus, mean, x);
}
float dot(const float* a, const float* b, std::int64_t n) {
  return fold(
      n, 0.0f, [](Vec sum, Vec u, Vec v) { return fma(u, v, sum); }, kPlus, 0.0f, a, b);
}
float sum(const float* x, std::int64_t n) { return fold(n, 0.0f, kPlus, kPlus, 0.0f, x); }
float max(const float* x, std::int64_t n) {  // NaN is passed over: exp of it still gives NaN
  const auto larger = [](auto m, auto v) { return v > m ? v : m; };
  return fold(n, -__builtin_inff(), larger, larger, -__builtin_inff(), x);
}

void add(float* y, const float* a, const float* b, std::int64_t n) { map(y, n, kPlus, a, b); }
void add_scaled(float* y, const float* x, float factor, std::int64_t n) {
  const Vec f = splat(factor);
  map(
      y, n, [=](Vec u, Vec v) { return fma(f, v, u); }, static_cast<const float*>(y), x);
}
void scale(float* y, const float* x, float factor, std::int64_t n) {
  map(
      y, n, [=](Vec v) { return v * factor; }, x);
}
void divide(float* y, const float* x, float divisor, std::int64_t n) {
  map(
      y, n, [=](Vec v) { return v / divisor; }, x);
}
// (x - mean) / divisor, then times weight plus bias (or null): the same steps in one pass or two.
void normalize(float* y, const float* x, float mean, float divisor, std::int64_t n) {
  map(
      y, n, [=](Vec v) { return (v - mean) / divisor; }, x);
}
void affine(float* y, const float* x, const float* weight, const float* bias, std::int64_t n) {
  if (bias == nullptr)
    map(
        y, n, [](Vec v, Vec w) { return v * w; }, x, weight);
  else
    map(
        y, n, [](Vec v, Vec w, Vec b) { return fma(v, w, b); }, x, weight, bias);
}
void normalize_affine(float* y, const float* x, float mean, float divisor, const float* weight,
                      const float* bias, std::int64_t n) {
  if (bias == nullptr)
    map(
        y, n, [=](Vec v, Vec w) { return (v - mean) / divisor * w; }, x, weight);
  else
    map(
        y, n, [=](Vec v, Vec w, Vec b) { return fma((v - mean) / divisor, w, b); }, x, weight, bias);
}

// x sigmoid(x) with e = exp(-|x|), which never overflows.
struct Silu {
  static SONDE_INLINE Vec f(Vec x) {
    const Vec e = exp(-abs(x)), one = splat(1.0f);
    return x * (x < 0.0f ? e : one) / (e + 1.0f);
  }
};
struct Gelu {
  static SONDE_INLINE Vec f(Vec x) { return x * normal_cdf(x); }
};
struct GeluTanh {  // arXiv:1606.08415: x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3)
  // (1 + tanh u) / 2 is the logistic function of 2 u, which does not cancel where tanh is near -1.
  static SONDE_INLINE Vec f(Vec x) {
    const Vec u = 1.5957691216f * fma(x * x * x, splat(0.044715f), x);
    const Vec e = exp(-abs(u)), one = splat(1.0f);
    return x * (u < 0.0f ? e : one) / (e + 1.0f);
  }
};
struct Relu {
  static SONDE_INLINE Vec f(Vec x) { return x > 0.0f ? x : x * 0.0f; }  // NaN stays
};
struct ReluSquared {
  static SONDE_INLINE Vec f(Vec x) { return Relu::f(x) * Relu::f(x); }
};
template <class F>
void activate(float* y, const float* x, std::int64_t n) {
  map(
      y, n, [](Vec v) { return F::f(v); }, x);
}
template <class F>
void activate_mul(float* y, const float* gate, const float* up, std::int64_t n) {
  map(
      y, n, [](Vec v, Vec u) { return F::f(v) * u; }, gate, up);
}
void softcap(float* y, const float* x, float cap, std::int64_t n) {
  map(
      y, n, [=](Vec v) { return cap * tanh(v / cap); }, x);
}
void clamp(float* y, const float* x, float least, float most, std::int64_t n) {  // NaN stays
  const auto f = [=](Vec v) {
    const Vec lo = splat(least), hi = splat(most);
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
  };
  map(y, n, f, x);
}
// Sum of exp(x - shift), every term a float, the sum a double over 16 lanes.
double exp_sum_double(const float* x, float shift, float factor, std::int64_t n) {
  double lanes[16] = {};
  float terms[16];
  for (std::int64_t i = 0; i < n; i += 16) {
    const int rest = n - i < 16 ? static_cast<int>(n - i) : 16;
    map(
        terms, rest, [=](Vec v) { return exp((v - shift) * factor); }, x + i);
    for (int lane = 0; lane < rest; ++lane) lanes[lane] += static_cast<double>(terms[lane]);
  }
  for (int half = 8; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}
float exp_sum(float* y, const float* x, float shift, std::int64_t n) {
  map(
      y, n, [=](Vec v) { return exp(v - shift); }, x);
  return sum(y, n);
}

void rotate(float* y_lo, float* y_hi, const float* lo, const float* hi, const float* cos, const float* sin,
            std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    const Vec a = load(lo + i), b = load(hi + i), c = load(cos + i), s = load(sin + i);
    store(y_lo + i, a * c - b * s);
    store(y_hi + i, b * c + a * s);
  }
  for (; i < n; ++i) {
    const float a = lo[i], b = hi[i];
    y_lo[i] = a * cos[i] - b * sin[i];
    y_hi[i] = b * cos[i] + a * sin[i];
  }
}

// The pairs (2i, 2i + 1) of x [2n].
void rotate_neighbours(float* y, const float* x, const float* cos, const float* sin, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = a * cos[i] - b * sin[i];
    y[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void to_bf16(std::uint16_t* y, const float* x, std::int64_t n) {
  typedef std::uint16_t Half __attribute__((vector_size(kW * 2)));
  std::int64_t i = 0;
  for (; i + kW <= n; i += kW)
    store(y + i, __builtin_convertvector(bf16_bits<Vec, UVec>(load(x + i)) >> 16, Half));
  if (i == n) return;
  const auto rest = static_cast<unsigned long>(n - i);
  float lanes[kW] = {};
  __builtin_memcpy(lanes, x + i, rest * 4);
  const Half last = __builtin_convertvector(bf16_bits<Vec, UVec>(load(lanes)) >> 16, Half);
  __builtin_memcpy(y + i, &last, rest * 2);
}

// IEEE half, to nearest even; NaN becomes one quiet NaN of its sign, as in runtime's to_f16.
SONDE_INLINE std::uint16_t half_bits(float x) {
  const auto u = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 rounds at 2^-24
    half = __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}
void to_f16(std::uint16_t* y, const float* x, std::int64_t n) {
  std::int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    if (_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) != 0) {
      for (int j = 0; j < 8; ++j) y[i + j] = half_bits(x[i + j]);
      continue;
    }
    const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __builtin_memcpy(y + i, &half, sizeof half);
  }
#endif
  for (; i < n; ++i) y[i] = half_bits(x[i]);
}

constexpr RowKernels kRows = {
    sum_squares,
    sum_squares_about,
    dot,
    max,
    sum,
    add,
    add_scaled,
    scale,
    divide,
    normalize,
    affine,
    normalize_affine,
    {activate<Silu>, activate<Gelu>, activate<GeluTanh>, activate<Relu>, activate<ReluSquared>},
    {activate_mul<Silu>, activate_mul<Gelu>, activate_mul<GeluTanh>, activate_mul<Relu>,
     activate_mul<ReluSquared>},
    softcap,
    clamp,
    exp_sum,
    exp_sum_double,
    rotate,
    rotate_neighbours,
    to_bf16,
    to_f16,
};

}  // namespace
}  // namespace sonde::cpu
