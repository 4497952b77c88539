// Element types of tensors and of weight files, GGUF's block formats included.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "runtime/error.h"

namespace sonde {

// One row per type in kDTypes (dtype.cpp); ggml's block formats keep ggml's names in lower case.
enum class DType : std::uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  u8,
  i16,
  u16,
  i32,
  u32,
  i64,
  u64,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  e4m3,  // 4 bits of exponent, 3 of mantissa, to 448 (arXiv:2209.05433)
};

struct DTypeInfo {
  std::string_view name;  // "bf16", "q4_1"
  int block_values;       // values per block: 1 for plain types, 32 or 256 for ggml's
  int block_bytes;        // bytes per block
};

const DTypeInfo& info(DType dtype);
inline std::string_view name(DType dtype) { return info(dtype).name; }
inline bool is_quantised(DType dtype) { return info(dtype).block_values > 1; }
DType parse_dtype(std::string_view name);  // throws UsageError that lists the names

// Bytes of `count` values; count must be a multiple of the block. Throws on overflow.
std::int64_t bytes_of(DType dtype, std::int64_t count);

// bfloat16: the upper half of a float32. from float: round to nearest even, NaN stays NaN.
struct bf16 {
  std::uint16_t bits;
};
inline float to_float(bf16 x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }
inline bf16 to_bf16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
inline float round_to_bf16(float x) { return to_float(to_bf16(x)); }

// IEEE half, stored as bits. Conversions are exact to nearest even, subnormals included.
struct f16 {
  std::uint16_t bits;
};
float to_float(f16 x);
f16 to_f16(float x);

// Runtime dtype -> template argument: dispatch_float(dtype, [&]<class T>() { ... }) for f32, f16, bf16.
template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::bf16:
      return f.template operator()<bf16>();
    default:
      fail("expected a dtype of f32, f16 or bf16, found {}", name(dtype));
  }
}

}  // namespace sonde
