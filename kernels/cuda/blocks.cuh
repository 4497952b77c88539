// ggml's block formats (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h) on the device: a type
// per format that gives four consecutive values of a block. Four lie within one group of equal scale in every
// format. d and dmin are f16 scales, m a minimum; a scale times a small integer is exact in float, so that
// only the last subtraction or addition rounds: the same bits as on the CPU.
#pragma once

#include "kernels/cuda/check.h"
#include "runtime/dtype.h"

namespace sonde::SONDE_GPU {

using Byte = unsigned char;

// Blocks begin at multiples of their size's largest power of two: 2 for most, 1 for MXFP4's 17 bytes.
GPU_DEV unsigned u16_at(const Byte* p) { return *reinterpret_cast<const unsigned short*>(p); }
GPU_DEV float half_at(const Byte* p) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(u16_at(p))));
}
template <int kAlign>
GPU_DEV unsigned word_at(const Byte* p) {
  if constexpr (kAlign == 4) return *reinterpret_cast<const unsigned*>(p);
  if constexpr (kAlign == 2) return u16_at(p) | u16_at(p + 2) << 16;
  return p[0] | static_cast<unsigned>(p[1]) << 8 | static_cast<unsigned>(p[2]) << 16 |
         static_cast<unsigned>(p[3]) << 24;
}
GPU_DEV int byte_of(unsigned word, int j) { return static_cast<int>((word >> (8 * j)) & 255u); }
GPU_DEV int signed_byte(int b) { return static_cast<signed char>(b); }

// Values [first, first + 4) of 32 nibbles, a byte each: the low ones of 16 bytes, then the high ones.
template <int kAlign>
GPU_DEV unsigned nibbles(const Byte* qs, int first) {
  return (word_at<kAlign>(qs + first % 16) >> (first < 16 ? 0 : 4)) & 0x0f0f0f0fu;
}
// Bits [first, first + 4) of 32, each in its byte at bit 4.
GPU_DEV unsigned fifth_bits(const Byte* bits, int first) {
  const unsigned four = static_cast<unsigned>(bits[first / 8] >> (first % 8)) & 15u;
  return (four & 1) << 4 | (four & 2) << 11 | (four & 4) << 18 | (four & 8) << 25;
}

GPU_DEV int iq4_value(int code) {  // the table as bytes of four words: no memory
  const unsigned words[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
  return signed_byte(byte_of(words[code / 4], code % 4));
}
GPU_DEV int mxfp4_doubled(int code) {  // e2m1 floats, doubled to be integers
  const int magnitude = static_cast<int>(0xc8643210u >> (code % 8 * 4)) & 15;
  return code < 8 ? magnitude : -magnitude;
}

struct Q4_0 {
  static constexpr int kValues = 32, kBytes = 18;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const float d = half_at(x);
    const unsigned q = nibbles<2>(x + 2, first);
    for (int j = 0; j < 4; ++j) y[j] = d * static_cast<float>(byte_of(q, j) - 8);
  }
};
struct Q4_1 {
  static constexpr int kValues = 32, kBytes = 20;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const float d = half_at(x), m = half_at(x + 2);
    const unsigned q = nibbles<4>(x + 4, first);
    for (int j = 0; j < 4; ++j) y[j] = fmaf(d, static_cast<float>(byte_of(q, j)), m);
  }
};
struct Q5_0 {
  static constexpr int kValues = 32, kBytes = 22;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const float d = half_at(x);
    const unsigned q = nibbles<2>(x + 6, first) | fifth_bits(x + 2, first);
    for (int j = 0; j < 4; ++j) y[j] = d * static_cast<float>(byte_of(q, j) - 16);
  }
};
struct Q5_1 {
  static constexpr int kValues = 32, kBytes = 24;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const float d = half_at(x), m = half_at(x + 2);
    const unsigned q = nibbles<4>(x + 8, first) | fifth_bits(x + 4, first);
    for (int j = 0; j < 4; ++j) y[j] = fmaf(d, static_cast<float>(byte_of(q, j)), m);
  }
};
struct Q8_0 {
  static constexpr int kValues = 32, kBytes = 34;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const float d = half_at(x);
    const unsigned q = word_at<2>(x + 2 + first);
    for (int j = 0; j < 4; ++j) y[j] = d * static_cast<float>(signed_byte(byte_of(q, j)));
  }
};
struct Iq4Nl {
  static constexpr int kValues = 32, kBytes = 18;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const float d = half_at(x);
    const unsigned q = nibbles<2>(x + 2, first);
    for (int j = 0; j < 4; ++j) y[j] = d * static_cast<float>(iq4_value(byte_of(q, j)));
  }
};
struct Mxfp4 {
  static constexpr int kValues = 32, kBytes = 17;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    // 2^(e - 128), half the block's scale: subnormal for e of 0 and 1.
    const unsigned e = x[0], q = nibbles<1>(x + 1, first);
    const float half_scale = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    for (int j = 0; j < 4; ++j) y[j] = half_scale * static_cast<float>(mxfp4_doubled(byte_of(q, j)));
  }
};

// ---- 256 values in groups of 16 or 32. Of groups of 16: bits [2 p, 2 p + 2) of 32 bytes hold plane p of
// 128.
struct Q2K {
  static constexpr int kValues = 256, kBytes = 84;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const int group = first / 16, plane = group / 2 % 4;
    const unsigned q = word_at<4>(x + 16 + 32 * (group / 8) + 16 * (group % 2) + first % 16) >> (2 * plane);
    const float scale = half_at(x + 80) * static_cast<float>(x[group] & 15);
    const float minimum = half_at(x + 82) * static_cast<float>(x[group] >> 4);
    for (int j = 0; j < 4; ++j) y[j] = fmaf(scale, static_cast<float>(byte_of(q, j) & 3), -minimum);
  }
};
struct Q3K {
  static constexpr int kValues = 256, kBytes = 110;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const int group = first / 16, part = group / 8, plane = group / 2 % 4, at = 16 * (group % 2) + first % 16;
    const Byte* scales = x + 96;
    const unsigned high = word_at<2>(x + at) >> (4 * part + plane),
                   q = word_at<2>(x + 32 + 32 * part + at) >> (2 * plane);
    const int low4 = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high2 = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
    const float scale = half_at(x + 108) * static_cast<float>((low4 | high2 << 4) - 32);
    for (int j = 0; j < 4; ++j) {
      const int missing = byte_of(high, j) & 1 ? 0 : 4;
      y[j] = scale * static_cast<float>((byte_of(q, j) & 3) - missing);
    }
  }
};
// The 6-bit scale and minimum of group i of 8, packed in 12 bytes.
struct ScaleMin {
  float scale, minimum;
  GPU_DEV ScaleMin(const Byte* packed, int i, float d, float dmin) {
    const int s = i < 4 ? packed[i] & 63 : (packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4;
    const int m = i < 4 ? packed[i + 4] & 63 : (packed[i + 4] >> 4) | (packed[i] >> 6) << 4;
    scale = d * static_cast<float>(s);
    minimum = dmin * static_cast<float>(m);
  }
};
struct Q4K {
  static constexpr int kValues = 256, kBytes = 144;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const int group = first / 32;
    const ScaleMin sm(x + 4, group, half_at(x), half_at(x + 2));
    const unsigned q = word_at<4>(x + 16 + 32 * (group / 2) + first % 32) >> (4 * (group % 2));
    for (int j = 0; j < 4; ++j) y[j] = fmaf(sm.scale, static_cast<float>(byte_of(q, j) & 15), -sm.minimum);
  }
};
struct Q5K {
  static constexpr int kValues = 256, kBytes = 176;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const int group = first / 32;
    const ScaleMin sm(x + 4, group, half_at(x), half_at(x + 2));
    const unsigned high = (word_at<4>(x + 16 + first % 32) >> group) & 0x01010101u,
                   low = word_at<4>(x + 48 + 32 * (group / 2) + first % 32) >> (4 * (group % 2));
    const unsigned q = (low & 0x0f0f0f0fu) | high << 4;
    for (int j = 0; j < 4; ++j) y[j] = fmaf(sm.scale, static_cast<float>(byte_of(q, j)), -sm.minimum);
  }
};
struct Q6K {
  static constexpr int kValues = 256, kBytes = 210;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const int group = first / 16, part = group / 8, plane = group / 2 % 4, at = 16 * (group % 2) + first % 16;
    const unsigned low = word_at<2>(x + 64 * part + 32 * (plane % 2) + at) >> (4 * (plane / 2)),
                   high = word_at<2>(x + 128 + 32 * part + at) >> (2 * plane);
    const unsigned q = (low & 0x0f0f0f0fu) | (high & 0x03030303u) << 4;
    const float scale = half_at(x + 208) * static_cast<float>(signed_byte(x[192 + group]));
    for (int j = 0; j < 4; ++j) y[j] = scale * static_cast<float>(byte_of(q, j) - 32);
  }
};
struct Iq4Xs {
  static constexpr int kValues = 256, kBytes = 136;
  static GPU_DEV void four(float (&y)[4], const Byte* x, int first) {
    const int group = first / 32;
    const int scale = ((x[4 + group / 2] >> (4 * (group % 2))) & 15) |
                      ((static_cast<int>(u16_at(x + 2)) >> (2 * group)) & 3) << 4;
    const float dl = half_at(x) * static_cast<float>(scale - 32);
    const unsigned q = nibbles<4>(x + 8 + 16 * group, first % 32);
    for (int j = 0; j < 4; ++j) y[j] = dl * static_cast<float>(iq4_value(byte_of(q, j)));
  }
};

// A warp's span of a row: so many values are brought to shared memory and expanded there at a time.
inline constexpr int kSpan = 1024;
template <class Format>
inline constexpr int kSpanWords = kSpan / Format::kValues* Format::kBytes / 16 + 2;  // of 16 bytes
static_assert(kSpan % 256 == 0);

// Blocks lie at odd addresses and a lane wants few bytes of each, so a warp copies them 16 bytes a lane, from
// the multiple of 16 below `from`; `end` is the end of what may be read. Returns where from's bytes are.
GPU_DEV const Byte* stage(uint4* to, const Byte* from, int bytes, const Byte* end) {
  const int skipped = static_cast<int>(reinterpret_cast<std::uintptr_t>(from) % 16);
  const Byte* base = from - skipped;
  for (int i = static_cast<int>(threadIdx.x % 32); i * 16 < skipped + bytes; i += 32) {
    if (end - base >= i * 16 + 16) {
      sts128(to + i, ldg128(base + i * 16));
    } else {
      for (const Byte* at = base + i * 16; at < end; ++at) reinterpret_cast<Byte*>(to)[at - base] = *at;
    }
  }
  __syncwarp();
  return reinterpret_cast<const Byte*>(to) + skipped;
}

// A plain type as blocks of one value.
template <class T>
struct PlainValue {
  static constexpr int kValues = 1, kBytes = sizeof(T);
  static GPU_DEV float one(const Byte* x) {
    if constexpr (kBytes == 8) return of(*reinterpret_cast<const unsigned long long*>(x), T{});
    if constexpr (kBytes == 4) return of(*reinterpret_cast<const unsigned*>(x), T{});
    if constexpr (kBytes == 2) return of(*reinterpret_cast<const unsigned short*>(x), T{});
    return of(*x, T{});
  }
  // Four values of 2 or 4 bytes in one access.
  static GPU_DEV void four(float (&y)[4], const Byte* x) {
    if constexpr (kBytes == 4) {
      const uint4 v = ldg128(x);
      y[0] = of(v.x, T{}), y[1] = of(v.y, T{}), y[2] = of(v.z, T{}), y[3] = of(v.w, T{});
    } else {
      const uint2 v = ldg64(x);
      y[0] = of(v.x & 0xffffu, T{}), y[1] = of(v.x >> 16, T{});
      y[2] = of(v.y & 0xffffu, T{}), y[3] = of(v.y >> 16, T{});
    }
  }

 private:
  static GPU_DEV float of(unsigned long long bits, float) {
    return __uint_as_float(static_cast<unsigned>(bits));
  }
  static GPU_DEV float of(unsigned long long bits, double) {
    return static_cast<float>(__longlong_as_double(static_cast<long long>(bits)));
  }
  static GPU_DEV float of(unsigned long long bits, f16) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
  }
  static GPU_DEV float of(unsigned long long bits, ::sonde::bf16) {
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
  }
  static GPU_DEV float of(unsigned long long bits, bool) { return bits != 0 ? 1.0f : 0.0f; }
  template <class I>
  static GPU_DEV float of(unsigned long long bits, I) {
    return static_cast<float>(static_cast<I>(bits));
  }
};

// f(format) with the device's type of a dtype; formats of one value apart from blocks.
template <class F>
void with_format(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(PlainValue<float>{});
    case DType::f16:
      return f(PlainValue<f16>{});
    case DType::bf16:
      return f(PlainValue<::sonde::bf16>{});
    case DType::f64:
      return f(PlainValue<double>{});
    case DType::i8:
      return f(PlainValue<std::int8_t>{});
    case DType::u8:
      return f(PlainValue<std::uint8_t>{});
    case DType::i16:
      return f(PlainValue<std::int16_t>{});
    case DType::u16:
      return f(PlainValue<std::uint16_t>{});
    case DType::i32:
      return f(PlainValue<std::int32_t>{});
    case DType::u32:
      return f(PlainValue<std::uint32_t>{});
    case DType::i64:
      return f(PlainValue<std::int64_t>{});
    case DType::u64:
      return f(PlainValue<std::uint64_t>{});
    case DType::boolean:
      return f(PlainValue<bool>{});
    case DType::q4_0:
      return f(Q4_0{});
    case DType::q4_1:
      return f(Q4_1{});
    case DType::q5_0:
      return f(Q5_0{});
    case DType::q5_1:
      return f(Q5_1{});
    case DType::q8_0:
      return f(Q8_0{});
    case DType::q2_k:
      return f(Q2K{});
    case DType::q3_k:
      return f(Q3K{});
    case DType::q4_k:
      return f(Q4K{});
    case DType::q5_k:
      return f(Q5K{});
    case DType::q6_k:
      return f(Q6K{});
    case DType::iq4_nl:
      return f(Iq4Nl{});
    case DType::iq4_xs:
      return f(Iq4Xs{});
    case DType::mxfp4:
      return f(Mxfp4{});
    case DType::e4m3:  // no file's: has scales elsewhere
      break;
  }
  fail("dtype {} cannot become f32", static_cast<int>(dtype));
}

}  // namespace sonde::SONDE_GPU
