// The GEMM micro-kernel, written once. A Kind says how words of x and w become products:
//   F32           one k a word, w in f32; F32Scores and F32Values in other chains
//   Bf16Expanded  x rounded to bf16, w stored as bf16 and widened in registers; products and sums in f32
//   Bf16Dot       two k a word, one bf16 dot product (vdpbf16ps, or its two steps in f32)
#pragma once

#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kernel_table.h"

namespace sonde::cpu {
namespace {

// Tiles of kMr x 2 vectors: as many accumulators as the registers hold beside two weights and one activation.
constexpr int kMr = kW == 16 ? 12 : kW == 8 ? 6 : 4;
constexpr int kNr = 2 * kW;

typedef float F8 __attribute__((vector_size(32)));
typedef std::uint32_t U8 __attribute__((vector_size(32)));

SONDE_INLINE std::uint32_t bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }
SONDE_INLINE std::uint32_t bf16_word(float x) {  // bf16 in the upper half
  const std::uint32_t u = bits(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (u | 0x400000u) & 0xffff0000u;
  return (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
}

struct F32 {
  static constexpr int kStep = 1, kWBytes = 4;
  static constexpr std::int64_t kChain = kGemmChain;  // values of k
  static SONDE_INLINE std::uint32_t word(const float* x, std::int64_t k, std::int64_t) { return bits(x[k]); }
  static SONDE_INLINE U8 words(const float* x) { return load<U8>(x); }
  static SONDE_INLINE void put(void* panel, std::int64_t step, int column, std::uint32_t word) {
    static_cast<std::uint32_t*>(panel)[step * kNr + column] = word;
  }
  static SONDE_INLINE void weights(const char* w, Vec& w0, Vec& w1) {
    w0 = load(w);
    w1 = load(w + kW * 4);
  }
  static SONDE_INLINE Vec multiply_add(Vec x, Vec w, Vec sum) { return fma(x, w, sum); }
};

struct F32Scores : F32 {
  static constexpr std::int64_t kChain = kScoreChain;
};
struct F32Values : F32 {
  static constexpr std::int64_t kChain = kValueChain;
};

struct Bf16Expanded : F32 {
  static constexpr int kWBytes = 2;
  static SONDE_INLINE std::uint32_t word(const float* x, std::int64_t k, std::int64_t) {
    return bf16_word(x[k]);
  }
  static SONDE_INLINE U8 words(const float* x) { return bf16_bits<F8, U8>(load<F8>(x)); }
  // Lane j of the panel's 32-bit words holds column j in its lower and column j + kW in its upper half.
  static SONDE_INLINE void put(void* panel, std::int64_t step, int column, std::uint32_t word) {
    static_cast<std::uint16_t*>(panel)[step * kNr + (column % kW) * 2 + column / kW] =
        static_cast<std::uint16_t>(word >> 16);
  }
  static SONDE_INLINE void weights(const char* w, Vec& w0, Vec& w1) {
    const UVec pair = load<UVec>(w);
    w0 = (Vec)(pair << 16);
    w1 = (Vec)(pair & 0xffff0000u);
  }
};

struct Bf16Dot : F32 {
  static constexpr int kStep = 2;
  static SONDE_INLINE std::uint32_t word(const float* x, std::int64_t step, std::int64_t k) {
    const std::uint32_t odd = 2 * step + 1 < k ? bf16_word(x[2 * step + 1]) : 0u;
    return (bf16_word(x[2 * step]) >> 16) | odd;
  }
  static SONDE_INLINE U8 words(const float* x) {
#if defined(__AVX512BF16__)  // subnormal numbers become 0, as the dot product reads them anyway
    return (U8)_mm512_cvtneps_pbh((__m512)load<Vec>(x));
#else
    const F8 a = load<F8>(x), b = load<F8>(x + 8);
    const F8 even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
    const F8 odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
    return (bf16_bits<F8, U8>(even) >> 16) | bf16_bits<F8, U8>(odd);
#endif
  }
  static SONDE_INLINE Vec multiply_add(Vec x, Vec w, Vec sum) {
#if defined(__AVX512BF16__)
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512)x, (__m512bh)(__m512)w);
#else
    const Vec upper = fma((Vec)((UVec)x & 0xffff0000u), (Vec)((UVec)w & 0xffff0000u), sum);
    return fma((Vec)((UVec)x << 16), (Vec)((UVec)w << 16), upper);
#endif
  }
};

struct Bf16DotValues : Bf16Dot {
  static constexpr std::int64_t kChain = kValueChain;
};

// 8 x 8 words: row i of the result is column i of the rows given.
SONDE_INLINE void transpose(U8 (&r)[8]) {
  U8 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = __builtin_shufflevector(a[i + j], a[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      b[i + 2 * j + 1] = __builtin_shufflevector(a[i + j], a[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Groups of 8 rows from the last to the first: a partial group's stores run over into words that are written
// later.
template <class Kind>
void pack_x(void* out, const float* x, std::int64_t stride, int rows, std::int64_t k) {
  auto* words = static_cast<std::uint32_t*>(out);
  const std::int64_t blocks = k / (8 * Kind::kStep), steps = (k + Kind::kStep - 1) / Kind::kStep;
  for (std::int64_t block = 0; block < blocks; ++block)
    for (int group = (rows - 1) / 8 * 8; group >= 0; group -= 8) {
      U8 r[8];
      for (int i = 0; i < 8; ++i) {
        const int row = group + i < rows ? group + i : rows - 1;
        r[i] = Kind::words(x + row * stride + block * 8 * Kind::kStep);
      }
      transpose(r);
      for (int i = 0; i < 8; ++i) store(words + (block * 8 + i) * rows + group, r[i]);
    }
  for (std::int64_t step = blocks * 8; step < steps; ++step)
    for (int i = 0; i < rows; ++i) words[step * rows + i] = Kind::word(x + i * stride, step, k);
}

// Words of columns [j, j + 8) over steps [8 block, 8 block + 8): row i of r is step i.
template <class Kind>
SONDE_INLINE void eight_columns(U8 (&r)[8], const float* w, std::int64_t stride, int j, std::int64_t block) {
  for (int i = 0; i < 8; ++i) r[i] = Kind::words(w + (j + i) * stride + block * 8 * Kind::kStep);
  transpose(r);
}

template <class Kind>
void pack_w(void* out, const float* w, std::int64_t stride, int cols, std::int64_t k) {
  const std::int64_t steps = (k + Kind::kStep - 1) / Kind::kStep;
  std::int64_t blocks = 0;  // of 8 steps that whole vectors pack
  if constexpr (kW >= 8) {
    blocks = cols == kNr ? k / (8 * Kind::kStep) : 0;
    auto* words = static_cast<std::uint32_t*>(out);
    constexpr int kRow = kNr * Kind::kWBytes / 4;  // 32-bit words of a step
    for (std::int64_t block = 0; block < blocks; ++block)
      for (int j = 0; j < kRow; j += 8) {
        U8 r[8];
        eight_columns<Kind>(r, w, stride, j, block);
        if constexpr (Kind::kWBytes == 2) {  // column j + kW goes to the upper half
          U8 upper[8];
          eight_columns<Kind>(upper, w, stride, j + kW, block);
          for (int i = 0; i < 8; ++i) r[i] = (r[i] >> 16) | upper[i];
        }
        for (int i = 0; i < 8; ++i) store(words + (block * 8 + i) * kRow + j, r[i]);
      }
  }
  for (std::int64_t step = blocks * 8; step < steps; ++step)
    for (int j = 0; j < kNr; ++j)
      Kind::put(out, step, j, j < cols ? Kind::word(w + j * stride, step, k) : 0u);
}

// Of values: a word is 4 bytes.
template <class Kind>
void pack_values(void* out, const float* w, std::int64_t stride, int cols, std::int64_t k) {
  const std::int64_t steps = (k + Kind::kStep - 1) / Kind::kStep;
  for (std::int64_t step = 0; step < steps; ++step, w += Kind::kStep * stride) {
    float values[Kind::kStep][kNr] = {};  // of this step, columns past cols and a k past the last as zeros
    for (int i = 0; i < Kind::kStep && step * Kind::kStep + i < k; ++i)
      __builtin_memcpy(values[i], w + i * stride, sizeof(float) * static_cast<unsigned>(cols));
    for (int j = 0; j < kNr; j += kW) {
      UVec words = (UVec)load(values[0] + j);
      if constexpr (Kind::kStep == 2)
        words = (bf16_bits<Vec, UVec>(load(values[0] + j)) >> 16) | bf16_bits<Vec, UVec>(load(values[1] + j));
      store(static_cast<std::uint32_t*>(out) + step * kNr + j, words);
    }
  }
}

template <class Kind, int rows>
void full_tile(float* c, std::int64_t c_stride, const void* x, const void* w, std::int64_t k, bool accumulate,
               const float* bias) {
  const auto* activation = static_cast<const char*>(x);
  const auto* weight = static_cast<const char*>(w);
  std::int64_t steps = (k + Kind::kStep - 1) / Kind::kStep;
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)  // y's lines come while the first chain runs
    for (int j = 0; j < 2; ++j) __builtin_prefetch(c + i * c_stride + j * kW, 1, 3);
  do {
    Vec sum[rows][2] = {};
    for (std::int64_t step = steps < Kind::kChain / Kind::kStep ? steps : Kind::kChain / Kind::kStep;
         step > 0; --step) {
      Vec w0, w1;
      Kind::weights(weight, w0, w1);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const Vec a = splat(load<float>(activation + 4 * i));
        sum[i][0] = Kind::multiply_add(a, w0, sum[i][0]);
        sum[i][1] = Kind::multiply_add(a, w1, sum[i][1]);
      }
      activation += 4 * rows;
      weight += kNr * Kind::kWBytes;
    }
    steps -= Kind::kChain / Kind::kStep;
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < 2; ++j) {
        if (accumulate) sum[i][j] += load(c + i * c_stride + j * kW);
        if (bias != nullptr && steps <= 0) sum[i][j] += load(bias + j * kW);
        store(c + i * c_stride + j * kW, sum[i][j]);
      }
    accumulate = true;
  } while (steps > 0);
}

using FullTile = void (*)(float*, std::int64_t, const void*, const void*, std::int64_t, bool, const float*);
template <class Kind>
constexpr FullTile kFullTiles[] = {
    full_tile<Kind, 1>,  full_tile<Kind, 2>,  full_tile<Kind, 3>, full_tile<Kind, 4>,
#if defined(__AVX2__)
    full_tile<Kind, 5>,  full_tile<Kind, 6>,
#endif
#if defined(__AVX512F__)
    full_tile<Kind, 7>,  full_tile<Kind, 8>,  full_tile<Kind, 9>, full_tile<Kind, 10>,
    full_tile<Kind, 11>, full_tile<Kind, 12>,
#endif
};

template <class Kind>
void tile(float* c, std::int64_t c_stride, const void* x, const void* w, std::int64_t k, int rows, int cols,
          bool accumulate, const float* bias) {
  static_assert(sizeof kFullTiles<Kind> == kMr * sizeof(FullTile));
  const FullTile run = kFullTiles<Kind>[rows - 1];
  if (cols == kNr) return run(c, c_stride, x, w, k, accumulate, bias);
  float edge[kMr * kNr], edge_bias[kNr] = {};  // the last panel: whole here, then its columns are copied
  if (bias != nullptr) __builtin_memcpy(edge_bias, bias, sizeof(float) * static_cast<unsigned>(cols));
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < kNr; ++j) edge[i * kNr + j] = accumulate && j < cols ? c[i * c_stride + j] : 0.0f;
  run(edge, kNr, x, w, k, accumulate, bias != nullptr ? edge_bias : nullptr);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) c[i * c_stride + j] = edge[i * kNr + j];
}

template <class Kind>
float peak(std::int64_t iterations) {
  constexpr int n = kMr * 2;
  Vec sum[n];
  for (int i = 0; i < n; ++i) sum[i] = splat(static_cast<float>(i));
  volatile float start = 0.99f, step = 1e-6f;
  const Vec x = splat(start), y = splat(step);
  for (std::int64_t it = 0; it < iterations; ++it) {
#pragma GCC unroll 32
    for (int i = 0; i < n; ++i)
      sum[i] = Kind::kStep == 1 ? fma(sum[i], x, y) : Kind::multiply_add(x, y, sum[i]);
  }
  float total = 0;
  for (int i = 0; i < n; ++i) total += sum[i][0];
  return total;
}

template <class Kind>
constexpr GemmKernel gemm_kernel(const char* name) {
  return {name,         kMr,          kNr,        Kind::kStep, Kind::kWBytes,
          pack_x<Kind>, pack_w<Kind>, tile<Kind>, peak<Kind>,  2.0 * kMr * 2 * kW * Kind::kStep};
}
template <class Kind>
constexpr ValueKernel value_kernel(const char* name) {
  static_assert(Kind::kWBytes == 4 && Kind::kChain == kValueChain);
  return {gemm_kernel<Kind>(name), pack_values<Kind>};
}

}  // namespace
}  // namespace sonde::cpu
