#include "runtime/dtype.h"

#include <cmath>
#include <string>

namespace sonde {
namespace {

constexpr DTypeInfo kDTypes[] = {
    {"f32", 1, 4},      {"f16", 1, 2},      {"bf16", 1, 2},     {"f64", 1, 8},      {"i8", 1, 1},
    {"u8", 1, 1},       {"i16", 1, 2},      {"u16", 1, 2},      {"i32", 1, 4},      {"u32", 1, 4},
    {"i64", 1, 8},      {"u64", 1, 8},      {"bool", 1, 1},     {"q4_0", 32, 18},   {"q4_1", 32, 20},
    {"q5_0", 32, 22},   {"q5_1", 32, 24},   {"q8_0", 32, 34},   {"q2_k", 256, 84},  {"q3_k", 256, 110},
    {"q4_k", 256, 144}, {"q5_k", 256, 176}, {"q6_k", 256, 210}, {"iq4_nl", 32, 18}, {"iq4_xs", 256, 136},
    {"mxfp4", 32, 17},  {"e4m3", 1, 1},
};
static_assert(std::size(kDTypes) == static_cast<std::size_t>(DType::e4m3) + 1);

}  // namespace

const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

DType parse_dtype(std::string_view name) {
  std::string known;
  for (std::size_t i = 0; i < std::size(kDTypes); ++i) {
    if (kDTypes[i].name == name) return static_cast<DType>(i);
    known += (i ? ", " : "") + std::string(kDTypes[i].name);
  }
  throw UsageError(fmt::format("unknown dtype '{}'", name), "known are " + known);
}

std::int64_t bytes_of(DType dtype, std::int64_t count) {
  const DTypeInfo& type = info(dtype);
  sonde_check(count >= 0 && count % type.block_values == 0, "{} values of {}", count, type.name);
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(count / type.block_values, type.block_bytes, &bytes))
    fail("{} values of {} overflow 63 bits of bytes", count, type.name);
  return bytes;
}

float to_float(f16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 0x1fu, mantissa = x.bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact
  return sign ? -magnitude : magnitude;
}

f16 to_f16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};   // NaN
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // rounds to inf
  if (magnitude < 0x38800000u) {                                                      // subnormal result
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    return {static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(scaled)))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

}  // namespace sonde
