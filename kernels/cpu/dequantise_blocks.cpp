// ggml's block formats (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h), one function per
// type. d and dmin are f16 scales of a block, m its minimum. Every product of a scale and a small integer is
// exact in f32, so only the last subtraction or addition rounds.
#include "kernels/cpu/dequantise_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace sonde {
namespace {

using Byte = unsigned char;

template <class T>
T load(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// to_float(f16) without branches or a call, so that loops over it vectorise; the same bits, NaN payloads
// included.
inline float half_to_float(std::uint16_t bits) {
  const std::uint32_t magnitude = bits & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  // The exponent's bias differs by 112; subnormals become normal by the same product.
  const auto finite = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  const std::uint32_t special = (magnitude << 13) | 0x7f800000u;
  return std::bit_cast<float>(sign | (magnitude >= 0x7c00u ? special : finite));
}

inline float half_at(const Byte* p) { return half_to_float(load<std::uint16_t>(p)); }

// Value j of a block of 32 nibbles: the low ones of 16 bytes, then the high ones.
inline int nibble(const Byte* qs, int j) { return j < 16 ? qs[j] & 15 : qs[j - 16] >> 4; }

constexpr std::array<std::int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};
// e2m1 floats, doubled to be integers.
constexpr std::array<std::int8_t, 16> kMxfp4Doubled = {0, 1,  2,  3,  4,  6,  8,  12,
                                                       0, -1, -2, -3, -4, -6, -8, -12};

// ---- 32 values
void q4_0(float* y, const Byte* x) {
  const float d = half_at(x);
  for (int j = 0; j < 32; ++j) y[j] = d * static_cast<float>(nibble(x + 2, j) - 8);
}

void q4_1(float* y, const Byte* x) {
  const float d = half_at(x), m = half_at(x + 2);
  for (int j = 0; j < 32; ++j) y[j] = d * static_cast<float>(nibble(x + 4, j)) + m;
}

void q5_0(float* y, const Byte* x) {
  const float d = half_at(x);
  const auto high = load<std::uint32_t>(x + 2);
  for (int j = 0; j < 32; ++j)
    y[j] = d * static_cast<float>((nibble(x + 6, j) | static_cast<int>((high >> j) & 1) << 4) - 16);
}

void q5_1(float* y, const Byte* x) {
  const float d = half_at(x), m = half_at(x + 2);
  const auto high = load<std::uint32_t>(x + 4);
  for (int j = 0; j < 32; ++j)
    y[j] = d * static_cast<float>(nibble(x + 8, j) | static_cast<int>((high >> j) & 1) << 4) + m;
}

void q8_0(float* y, const Byte* x) {
  const float d = half_at(x);
  for (int j = 0; j < 32; ++j) y[j] = d * static_cast<float>(static_cast<std::int8_t>(x[2 + j]));
}

void iq4_nl(float* y, const Byte* x) {
  const float d = half_at(x);
  for (int j = 0; j < 32; ++j)
    y[j] = d * static_cast<float>(kIq4Values[static_cast<std::size_t>(nibble(x + 2, j))]);
}

void mxfp4(float* y, const Byte* x) {
  // 2^(e - 128), half the block's scale: subnormal for e of 0 and 1.
  const std::uint32_t e = x[0];
  const float half_scale = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  for (int j = 0; j < 32; ++j)
    y[j] = half_scale * static_cast<float>(kMxfp4Doubled[static_cast<std::size_t>(nibble(x + 1, j))]);
}

// ---- 256 values
// Bits [2 p, 2 p + 2) of 32 bytes hold plane p of 128 values; each half block has 32 bytes.
void q2_k(float* y, const Byte* x) {
  const Byte *scales = x, *qs = x + 16;
  const float d = half_at(x + 80), dmin = half_at(x + 82);
  for (int group = 0; group < 16; ++group) {  // of 16 values
    const int half = group / 8, plane = group / 2 % 4;
    const Byte* q = qs + 32 * half + 16 * (group % 2);
    const float scale = d * static_cast<float>(scales[group] & 15);
    const float minimum = dmin * static_cast<float>(scales[group] >> 4);
    for (int j = 0; j < 16; ++j)
      y[16 * group + j] = scale * static_cast<float>((q[j] >> (2 * plane)) & 3) - minimum;
  }
}

void q3_k(float* y, const Byte* x) {
  const Byte *high = x, *qs = x + 32, *scales = x + 96;
  const float d = half_at(x + 108);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8, plane = group / 2 % 4, first = 16 * (group % 2);
    const int low4 = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high2 = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
    const float scale = d * static_cast<float>((low4 | high2 << 4) - 32);
    for (int j = 0; j < 16; ++j) {
      const int low = (qs[32 * half + first + j] >> (2 * plane)) & 3;
      const int missing = (high[first + j] >> (4 * half + plane)) & 1 ? 0 : 4;
      y[16 * group + j] = scale * static_cast<float>(low - missing);
    }
  }
}

// The 6-bit scale and minimum of group i of 8, packed in 12 bytes.
struct ScaleMin {
  int scale, minimum;
};
inline ScaleMin scale_min(const Byte* packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[i + 4] & 63};
  return {(packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4, (packed[i + 4] >> 4) | (packed[i] >> 6) << 4};
}

void q4_k(float* y, const Byte* x) {
  const float d = half_at(x), dmin = half_at(x + 2);
  for (int group = 0; group < 8; ++group) {  // of 32 values: the low or high nibbles of 32 bytes
    const ScaleMin sm = scale_min(x + 4, group);
    const float scale = d * static_cast<float>(sm.scale), minimum = dmin * static_cast<float>(sm.minimum);
    const Byte* q = x + 16 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int j = 0; j < 32; ++j)
      y[32 * group + j] = scale * static_cast<float>((q[j] >> shift) & 15) - minimum;
  }
}

void q5_k(float* y, const Byte* x) {
  const float d = half_at(x), dmin = half_at(x + 2);
  const Byte* high = x + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleMin sm = scale_min(x + 4, group);
    const float scale = d * static_cast<float>(sm.scale), minimum = dmin * static_cast<float>(sm.minimum);
    const Byte* q = x + 48 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int j = 0; j < 32; ++j) {
      const int value = ((q[j] >> shift) & 15) | ((high[j] >> group) & 1) << 4;
      y[32 * group + j] = scale * static_cast<float>(value) - minimum;
    }
  }
}

void q6_k(float* y, const Byte* x) {
  const float d = half_at(x + 208);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8, plane = group / 2 % 4, first = 16 * (group % 2);
    const Byte* low = x + 64 * half + 32 * (plane % 2) + first;
    const Byte* high = x + 128 + 32 * half + first;
    const int shift = 4 * (plane / 2);
    const float scale = d * static_cast<float>(static_cast<std::int8_t>(x[192 + group]));
    for (int j = 0; j < 16; ++j) {
      const int value = ((low[j] >> shift) & 15) | ((high[j] >> (2 * plane)) & 3) << 4;
      y[16 * group + j] = scale * static_cast<float>(value - 32);
    }
  }
}

void iq4_xs(float* y, const Byte* x) {
  const float d = half_at(x);
  const int high = load<std::uint16_t>(x + 2);
  for (int group = 0; group < 8; ++group) {
    const int scale = ((x[4 + group / 2] >> (4 * (group % 2))) & 15) | ((high >> (2 * group)) & 3) << 4;
    const float dl = d * static_cast<float>(scale - 32);
    const Byte* q = x + 8 + 16 * group;
    for (int j = 0; j < 32; ++j)
      y[32 * group + j] = dl * static_cast<float>(kIq4Values[static_cast<std::size_t>(nibble(q, j))]);
  }
}

// ---- plain types
template <class T>
float plain(const Byte* x) {
  return static_cast<float>(load<T>(x));
}
template <>
float plain<f16>(const Byte* x) {
  return half_at(x);
}
template <>
float plain<bf16>(const Byte* x) {
  return to_float(load<bf16>(x));
}
template <>
float plain<bool>(const Byte* x) {
  return *x != 0 ? 1.0f : 0.0f;
}

// A piece is what one thread takes at a time: long enough to hide the scheduling, a multiple of every block.
constexpr std::int64_t kPieceValues = 16384;

// piece(first, count) for the values [first, first + count), over threads.
template <class Piece>
void for_pieces(std::int64_t n, Piece piece) {
  const std::int64_t pieces = (n + kPieceValues - 1) / kPieceValues;
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (std::int64_t p = 0; p < pieces; ++p)
    piece(p * kPieceValues, std::min(kPieceValues, n - p * kPieceValues));
}

template <class T>
void convert(float* out, const Byte* raw, std::int64_t n) {
  for_pieces(n, [=](std::int64_t first, std::int64_t count) {
    const Byte* x = raw + first * static_cast<std::int64_t>(sizeof(T));
    float* y = out + first;
    for (std::int64_t i = 0; i < count; ++i) y[i] = plain<T>(x + i * static_cast<std::int64_t>(sizeof(T)));
  });
}

template <void (*block)(float*, const Byte*)>
void convert_blocks(float* out, const Byte* raw, std::int64_t n, DType dtype) {
  const std::int64_t values = info(dtype).block_values, bytes = info(dtype).block_bytes;
  for_pieces(n, [=](std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; i += values) block(out + i, raw + i / values * bytes);
  });
}

}  // namespace

void dequantise_blocks(float* out, const std::byte* raw_bytes, DType dtype, std::int64_t n) {
  sonde_check(n >= 0 && n % info(dtype).block_values == 0, "{} values of {}", n, name(dtype));
  const auto* raw = reinterpret_cast<const Byte*>(raw_bytes);
  switch (dtype) {
    case DType::f32:
      return convert<float>(out, raw, n);
    case DType::f16:
      return convert<f16>(out, raw, n);
    case DType::bf16:
      return convert<bf16>(out, raw, n);
    case DType::f64:
      return convert<double>(out, raw, n);
    case DType::i8:
      return convert<std::int8_t>(out, raw, n);
    case DType::u8:
      return convert<std::uint8_t>(out, raw, n);
    case DType::i16:
      return convert<std::int16_t>(out, raw, n);
    case DType::u16:
      return convert<std::uint16_t>(out, raw, n);
    case DType::i32:
      return convert<std::int32_t>(out, raw, n);
    case DType::u32:
      return convert<std::uint32_t>(out, raw, n);
    case DType::i64:
      return convert<std::int64_t>(out, raw, n);
    case DType::u64:
      return convert<std::uint64_t>(out, raw, n);
    case DType::boolean:
      return convert<bool>(out, raw, n);
    case DType::q4_0:
      return convert_blocks<q4_0>(out, raw, n, dtype);
    case DType::q4_1:
      return convert_blocks<q4_1>(out, raw, n, dtype);
    case DType::q5_0:
      return convert_blocks<q5_0>(out, raw, n, dtype);
    case DType::q5_1:
      return convert_blocks<q5_1>(out, raw, n, dtype);
    case DType::q8_0:
      return convert_blocks<q8_0>(out, raw, n, dtype);
    case DType::q2_k:
      return convert_blocks<q2_k>(out, raw, n, dtype);
    case DType::q3_k:
      return convert_blocks<q3_k>(out, raw, n, dtype);
    case DType::q4_k:
      return convert_blocks<q4_k>(out, raw, n, dtype);
    case DType::q5_k:
      return convert_blocks<q5_k>(out, raw, n, dtype);
    case DType::q6_k:
      return convert_blocks<q6_k>(out, raw, n, dtype);
    case DType::iq4_nl:
      return convert_blocks<iq4_nl>(out, raw, n, dtype);
    case DType::iq4_xs:
      return convert_blocks<iq4_xs>(out, raw, n, dtype);
    case DType::mxfp4:
      return convert_blocks<mxfp4>(out, raw, n, dtype);
    case DType::e4m3:  // no file's: has scales elsewhere
      break;
  }
  fail("dtype {} cannot become f32", static_cast<int>(dtype));
}

}  // namespace sonde
