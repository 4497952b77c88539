// Block layouts: fields in order of bytes, little endian, as ggml-common.h names them. A nibble array of 16
// bytes holds values 0..15 in the low halves and 16..31 in the high ones.
#include "kernels/cpu/dequantise_blocks.h"

#include <bit>
#include <cstring>

namespace sonde {
namespace {

template <class T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
float half(const std::byte* p) { return to_float(f16{read<std::uint16_t>(p)}); }
int byte(const std::byte* p) { return std::to_integer<int>(*p); }
int signed_byte(const std::byte* p) { return static_cast<std::int8_t>(*p); }

// value(i, q): writes 32 values from 16 bytes of nibbles.
template <class F>
void each_nibble(const std::byte* qs, F&& value) {
  for (int j = 0; j < 16; ++j) {
    value(j, byte(qs + j) & 15);
    value(j + 16, byte(qs + j) >> 4);
  }
}

constexpr int kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float kMxfp4Values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

void q4_0(float* out, const std::byte* b) {
  const float d = half(b);
  each_nibble(b + 2, [&](int i, int q) { out[i] = d * static_cast<float>(q - 8); });
}
void q4_1(float* out, const std::byte* b) {
  const float d = half(b), m = half(b + 2);
  each_nibble(b + 4, [&](int i, int q) { out[i] = d * static_cast<float>(q) + m; });
}
// The fifth bit of value i is bit i of qh.
void q5_0(float* out, const std::byte* b) {
  const float d = half(b);
  const auto qh = read<std::uint32_t>(b + 2);
  each_nibble(b + 6, [&](int i, int q) {
    out[i] = d * static_cast<float>((q | static_cast<int>(qh >> i & 1) << 4) - 16);
  });
}
void q5_1(float* out, const std::byte* b) {
  const float d = half(b), m = half(b + 2);
  const auto qh = read<std::uint32_t>(b + 4);
  each_nibble(b + 8, [&](int i, int q) {
    out[i] = d * static_cast<float>(q | static_cast<int>(qh >> i & 1) << 4) + m;
  });
}
void q8_0(float* out, const std::byte* b) {
  const float d = half(b);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(signed_byte(b + 2 + i));
}

// Two-bit quants: two halves of 128 values; in each, 32 bytes hold four planes of 32 values. 16 values share
// a scale.
void q2_k(float* out, const std::byte* b) {
  const float d = half(b + 80), dmin = half(b + 82);
  for (int i = 0; i < 256; ++i) {
    const int scale = byte(b + i / 16), q = byte(b + 16 + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    const float d_scale = d * static_cast<float>(scale & 15), minimum = dmin * static_cast<float>(scale >> 4);
    out[i] = d_scale * static_cast<float>(q) - minimum;
  }
}

// Sixteen 6-bit scales in 12 bytes: low nibbles of 0..7 and 8..15, then the upper two bits of four at a time.
int q3_scale(const std::byte* s, int i) {
  const int low = byte(s + i % 8) >> (i / 8 * 4) & 15, high = byte(s + 8 + i % 4) >> (i / 4 * 2) & 3;
  return (low | high << 4) - 32;
}
void q3_k(float* out, const std::byte* b) {
  const float d = half(b + 108);
  for (int i = 0; i < 256; ++i) {
    const int plane = i / 32;  // bit of hmask
    const int low = byte(b + 32 + i / 128 * 32 + i % 32) >> (plane % 4 * 2) & 3;
    const int q = low - ((byte(b + i % 32) >> plane & 1) ? 0 : 4);
    out[i] = d * static_cast<float>(q3_scale(b + 96, i / 16)) * static_cast<float>(q);
  }
}

// Eight 6-bit scales and minima in 12 bytes; 32 values share one.
void k_scale(const std::byte* s, int i, int& scale, int& minimum) {
  if (i < 4) {
    scale = byte(s + i) & 63;
    minimum = byte(s + i + 4) & 63;
  } else {
    scale = (byte(s + i + 4) & 15) | byte(s + i - 4) >> 6 << 4;
    minimum = byte(s + i + 4) >> 4 | byte(s + i) >> 6 << 4;
  }
}
// 64 values at a time: 32 bytes, low nibbles then high ones. Q5_K adds a fifth bit from plane i / 32 of qh.
void q4_or_q5_k(float* out, const std::byte* b, const std::byte* qh, const std::byte* qs) {
  const float d = half(b), dmin = half(b + 2);
  for (int i = 0; i < 256; ++i) {
    int scale = 0, minimum = 0;
    k_scale(b + 4, i / 32, scale, minimum);
    int q = byte(qs + i / 64 * 32 + i % 32) >> (i / 32 % 2 * 4) & 15;
    if (qh != nullptr) q |= (byte(qh + i % 32) >> (i / 32) & 1) << 4;
    out[i] = d * static_cast<float>(scale) * static_cast<float>(q) - dmin * static_cast<float>(minimum);
  }
}
void q4_k(float* out, const std::byte* b) { q4_or_q5_k(out, b, nullptr, b + 16); }
void q5_k(float* out, const std::byte* b) { q4_or_q5_k(out, b, b + 16, b + 48); }

// Halves of 128 values: 64 bytes of low nibbles (planes 0, 1 low; 2, 3 high), 32 bytes of upper bit pairs.
void q6_k(float* out, const std::byte* b) {
  const float d = half(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int h = i / 128, plane = i % 128 / 32;
    const int low = byte(b + h * 64 + plane % 2 * 32 + i % 32) >> (plane / 2 * 4) & 15;
    const int high = byte(b + 128 + h * 32 + i % 32) >> (plane * 2) & 3;
    out[i] =
        d * static_cast<float>(signed_byte(b + 192 + i / 16)) * static_cast<float>((low | high << 4) - 32);
  }
}

void iq4_nl(float* out, const std::byte* b) {
  const float d = half(b);
  each_nibble(b + 2, [&](int i, int q) { out[i] = d * static_cast<float>(kIq4Values[q]); });
}
void iq4_xs(float* out, const std::byte* b) {
  const float d = half(b);
  const int high = read<std::uint16_t>(b + 2);
  for (int group = 0; group < 8; ++group) {
    const int low = byte(b + 4 + group / 2) >> (group % 2 * 4) & 15;
    const float scale = d * static_cast<float>((low | (high >> (2 * group) & 3) << 4) - 32);
    each_nibble(b + 8 + group * 16,
                [&](int i, int q) { out[group * 32 + i] = scale * static_cast<float>(kIq4Values[q]); });
  }
}
// The scale is a power of two with bias 127: its bits are a float's exponent, 2^-127 is a subnormal.
void mxfp4(float* out, const std::byte* b) {
  const auto e = static_cast<std::uint32_t>(byte(b));
  const float d = std::bit_cast<float>(e == 0 ? 0x00400000u : e << 23);
  each_nibble(b + 1, [&](int i, int q) { out[i] = d * kMxfp4Values[q]; });
}

template <class T>
void plain(float* out, const std::byte* raw, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(read<T>(raw + i * static_cast<std::int64_t>(sizeof(T))));
}
template <class T>
void small_float(float* out, const std::byte* raw, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_float(T{read<std::uint16_t>(raw + 2 * i)});
}

using Block = void (*)(float* out, const std::byte* block);
Block block_reader(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return q4_0;
    case DType::q4_1:
      return q4_1;
    case DType::q5_0:
      return q5_0;
    case DType::q5_1:
      return q5_1;
    case DType::q8_0:
      return q8_0;
    case DType::q2_k:
      return q2_k;
    case DType::q3_k:
      return q3_k;
    case DType::q4_k:
      return q4_k;
    case DType::q5_k:
      return q5_k;
    case DType::q6_k:
      return q6_k;
    case DType::iq4_nl:
      return iq4_nl;
    case DType::iq4_xs:
      return iq4_xs;
    case DType::mxfp4:
      return mxfp4;
    default:
      fail("dtype {} has no blocks", name(dtype));
  }
}

}  // namespace

void dequantise_blocks(float* out, const std::byte* raw, DType dtype, std::int64_t n) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, raw, static_cast<std::size_t>(n) * 4);
      return;
    case DType::f16:
      return small_float<f16>(out, raw, n);
    case DType::bf16:
      return small_float<bf16>(out, raw, n);
    case DType::f64:
      return plain<double>(out, raw, n);
    case DType::i8:
      return plain<std::int8_t>(out, raw, n);
    case DType::u8:
    case DType::boolean:
      return plain<std::uint8_t>(out, raw, n);
    case DType::i16:
      return plain<std::int16_t>(out, raw, n);
    case DType::u16:
      return plain<std::uint16_t>(out, raw, n);
    case DType::i32:
      return plain<std::int32_t>(out, raw, n);
    case DType::u32:
      return plain<std::uint32_t>(out, raw, n);
    case DType::i64:
      return plain<std::int64_t>(out, raw, n);
    case DType::u64:
      return plain<std::uint64_t>(out, raw, n);
    default:
      break;
  }
  const Block block = block_reader(dtype);
  const DTypeInfo& type = info(dtype);
  sonde_check(n % type.block_values == 0, "{} values of {}", n, type.name);
  for (std::int64_t i = 0; i < n / type.block_values; ++i)
    block(out + i * type.block_values, raw + i * type.block_bytes);
}

}  // namespace sonde
