// ggml's block formats (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h) on the device: a type
// per format that gives eight consecutive values of a block. Eight lie within one group of equal scale in
// every format. d and dmin are f16 scales, m a minimum; a scale times a small integer is exact in float, so
// that only the last subtraction or addition rounds: the same bits as on the CPU.
#pragma once

#include "kernels/cuda/check.h"
#include "runtime/dtype.h"

namespace sonde::SONDE_GPU {

using Byte = unsigned char;

// Blocks are 2-byte aligned at most, and MXFP4's 17 bytes not even that.
GPU_DEV unsigned u16_at(const Byte* p) { return p[0] | static_cast<unsigned>(p[1]) << 8; }
GPU_DEV unsigned u32_at(const Byte* p) { return u16_at(p) | u16_at(p + 2) << 16; }
GPU_DEV float half_at(const Byte* p) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(u16_at(p))));
}
GPU_DEV int signed_byte(Byte b) { return static_cast<signed char>(b); }

// Values [first, first + 8) of 32 nibbles: the low ones of 16 bytes, then the high ones.
GPU_DEV int nibble(const Byte* qs, int first, int j) {
  return (qs[first % 16 + j] >> (first < 16 ? 0 : 4)) & 15;
}

GPU_DEV int iq4_value(int code) {  // the table as bytes of four words: no memory
  const unsigned words[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
  return signed_byte(static_cast<Byte>(words[code / 4] >> (code % 4 * 8)));
}
GPU_DEV int mxfp4_doubled(int code) {  // e2m1 floats, doubled to be integers
  const int magnitude = static_cast<int>(0xc8643210u >> (code % 8 * 4)) & 15;
  return code < 8 ? magnitude : -magnitude;
}

struct Q4_0 {
  static constexpr int kValues = 32, kBytes = 18;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const float d = half_at(x);
    for (int j = 0; j < 8; ++j) y[j] = d * static_cast<float>(nibble(x + 2, first, j) - 8);
  }
};
struct Q4_1 {
  static constexpr int kValues = 32, kBytes = 20;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const float d = half_at(x), m = half_at(x + 2);
    for (int j = 0; j < 8; ++j) y[j] = fmaf(d, static_cast<float>(nibble(x + 4, first, j)), m);
  }
};
struct Q5_0 {
  static constexpr int kValues = 32, kBytes = 22;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const float d = half_at(x);
    const int high = x[2 + first / 8];
    for (int j = 0; j < 8; ++j)
      y[j] = d * static_cast<float>((nibble(x + 6, first, j) | ((high >> j) & 1) << 4) - 16);
  }
};
struct Q5_1 {
  static constexpr int kValues = 32, kBytes = 24;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const float d = half_at(x), m = half_at(x + 2);
    const int high = x[4 + first / 8];
    for (int j = 0; j < 8; ++j)
      y[j] = fmaf(d, static_cast<float>(nibble(x + 8, first, j) | ((high >> j) & 1) << 4), m);
  }
};
struct Q8_0 {
  static constexpr int kValues = 32, kBytes = 34;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const float d = half_at(x);
    for (int j = 0; j < 8; ++j) y[j] = d * static_cast<float>(signed_byte(x[2 + first + j]));
  }
};
struct Iq4Nl {
  static constexpr int kValues = 32, kBytes = 18;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const float d = half_at(x);
    for (int j = 0; j < 8; ++j) y[j] = d * static_cast<float>(iq4_value(nibble(x + 2, first, j)));
  }
};
struct Mxfp4 {
  static constexpr int kValues = 32, kBytes = 17;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    // 2^(e - 128), half the block's scale: subnormal for e of 0 and 1.
    const unsigned e = x[0];
    const float half_scale = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    for (int j = 0; j < 8; ++j)
      y[j] = half_scale * static_cast<float>(mxfp4_doubled(nibble(x + 1, first, j)));
  }
};

// ---- 256 values in groups of 16 or 32. Of groups of 16: bits [2 p, 2 p + 2) of 32 bytes hold plane p of
// 128.
struct Q2K {
  static constexpr int kValues = 256, kBytes = 84;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const int group = first / 16, plane = group / 2 % 4;
    const Byte* q = x + 16 + 32 * (group / 8) + 16 * (group % 2) + first % 16;
    const float scale = half_at(x + 80) * static_cast<float>(x[group] & 15);
    const float minimum = half_at(x + 82) * static_cast<float>(x[group] >> 4);
    for (int j = 0; j < 8; ++j) y[j] = fmaf(scale, static_cast<float>((q[j] >> (2 * plane)) & 3), -minimum);
  }
};
struct Q3K {
  static constexpr int kValues = 256, kBytes = 110;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const int group = first / 16, part = group / 8, plane = group / 2 % 4, at = 16 * (group % 2) + first % 16;
    const Byte *high = x + at, *q = x + 32 + 32 * part + at, *scales = x + 96;
    const int low4 = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high2 = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
    const float scale = half_at(x + 108) * static_cast<float>((low4 | high2 << 4) - 32);
    for (int j = 0; j < 8; ++j) {
      const int missing = (high[j] >> (4 * part + plane)) & 1 ? 0 : 4;
      y[j] = scale * static_cast<float>(((q[j] >> (2 * plane)) & 3) - missing);
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
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const int group = first / 32, shift = 4 * (group % 2);
    const ScaleMin sm(x + 4, group, half_at(x), half_at(x + 2));
    const Byte* q = x + 16 + 32 * (group / 2) + first % 32;
    for (int j = 0; j < 8; ++j) y[j] = fmaf(sm.scale, static_cast<float>((q[j] >> shift) & 15), -sm.minimum);
  }
};
struct Q5K {
  static constexpr int kValues = 256, kBytes = 176;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const int group = first / 32, shift = 4 * (group % 2);
    const ScaleMin sm(x + 4, group, half_at(x), half_at(x + 2));
    const Byte *high = x + 16 + first % 32, *q = x + 48 + 32 * (group / 2) + first % 32;
    for (int j = 0; j < 8; ++j) {
      const int value = ((q[j] >> shift) & 15) | ((high[j] >> group) & 1) << 4;
      y[j] = fmaf(sm.scale, static_cast<float>(value), -sm.minimum);
    }
  }
};
struct Q6K {
  static constexpr int kValues = 256, kBytes = 210;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const int group = first / 16, part = group / 8, plane = group / 2 % 4, at = 16 * (group % 2) + first % 16;
    const Byte* low = x + 64 * part + 32 * (plane % 2) + at;
    const Byte* high = x + 128 + 32 * part + at;
    const int shift = 4 * (plane / 2);
    const float scale = half_at(x + 208) * static_cast<float>(signed_byte(x[192 + group]));
    for (int j = 0; j < 8; ++j) {
      const int value = ((low[j] >> shift) & 15) | ((high[j] >> (2 * plane)) & 3) << 4;
      y[j] = scale * static_cast<float>(value - 32);
    }
  }
};
struct Iq4Xs {
  static constexpr int kValues = 256, kBytes = 136;
  static GPU_DEV void eight(float (&y)[8], const Byte* x, int first) {
    const int group = first / 32;
    const int scale = ((x[4 + group / 2] >> (4 * (group % 2))) & 15) |
                      ((static_cast<int>(u16_at(x + 2)) >> (2 * group)) & 3) << 4;
    const float dl = half_at(x) * static_cast<float>(scale - 32);
    for (int j = 0; j < 8; ++j)
      y[j] = dl * static_cast<float>(iq4_value(nibble(x + 8 + 16 * group, first % 32, j)));
  }
};

// A plain type as blocks of one value.
template <class T>
struct PlainValue {
  static constexpr int kValues = 1, kBytes = sizeof(T);
  static GPU_DEV float one(const Byte* x) {
    unsigned long long bits = 0;
    for (int i = 0; i < kBytes; ++i) bits |= static_cast<unsigned long long>(x[i]) << (8 * i);
    return of(bits, T{});
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
  }
  fail("dtype {} cannot become f32", static_cast<int>(dtype));
}

}  // namespace sonde::SONDE_GPU
