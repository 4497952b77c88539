// Half and bfloat16 against exact arithmetic: every bit pattern one way, values around every rounding edge
// the other.
#include "runtime/dtype.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace sonde {
namespace {

// Value of a pattern with `exponent_bits` and `mantissa_bits`, by the definition of IEEE 754 formats.
double value_of(unsigned bits, int exponent_bits, int mantissa_bits) {
  const unsigned mantissa = bits & ((1u << mantissa_bits) - 1);
  const unsigned exponent = (bits >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1 ? -1 : 1;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1u << exponent_bits) - 1) return mantissa ? std::nan("") : sign * INFINITY;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias)
                               : std::ldexp(1 + fraction, static_cast<int>(exponent) - bias));
}

// All finite values >= 0 of a format, ascending: the pattern is the index. The next one would be infinity.
std::vector<double> magnitudes(int exponent_bits, int mantissa_bits) {
  std::vector<double> values;
  const unsigned infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  for (unsigned bits = 0; bits < infinity; ++bits)
    values.push_back(value_of(bits, exponent_bits, mantissa_bits));
  const auto largest = static_cast<unsigned>(values.size()) - 1;
  values.push_back(2 * values[largest] - values[largest - 1]);  // where infinity begins to round from
  return values;
}

// The nearest pattern, ties to even, found by bisection over the table.
unsigned nearest(float x, const std::vector<double>& table) {
  const double magnitude = std::fabs(static_cast<double>(x));
  const auto infinity = static_cast<unsigned>(table.size()) - 1;
  if (magnitude >= table.back()) return infinity;
  const auto above =
      static_cast<unsigned>(std::upper_bound(table.begin(), table.end(), magnitude) - table.begin());
  const unsigned below = above - 1;
  const double down = magnitude - table[below], up = table[above] - magnitude;
  return down < up || (down == up && below % 2 == 0) ? below : above;
}

struct F16 {
  static constexpr int kExponent = 5, kMantissa = 10;
  static float widen(unsigned bits) { return to_float(f16{static_cast<std::uint16_t>(bits)}); }
  static unsigned narrow(float x) { return to_f16(x).bits; }
};
struct Bf16 {
  static constexpr int kExponent = 8, kMantissa = 7;
  static float widen(unsigned bits) { return to_float(bf16{static_cast<std::uint16_t>(bits)}); }
  static unsigned narrow(float x) { return to_bf16(x).bits; }
};

template <class Format>
class SmallFloat : public ::testing::Test {};
using Formats = ::testing::Types<F16, Bf16>;
TYPED_TEST_SUITE(SmallFloat, Formats);

TYPED_TEST(SmallFloat, EveryPatternHasItsValueAndComesBack) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float found = TypeParam::widen(bits);
    const double expected = value_of(bits, TypeParam::kExponent, TypeParam::kMantissa);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(found)) << bits;
      EXPECT_TRUE(std::isnan(TypeParam::widen(TypeParam::narrow(found)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(found), expected) << bits;
    ASSERT_EQ(std::signbit(found), (bits & 0x8000) != 0) << bits;
    ASSERT_EQ(TypeParam::narrow(found), bits);
  }
}

TYPED_TEST(SmallFloat, RoundsToNearestEven) {
  const std::vector<double> table = magnitudes(TypeParam::kExponent, TypeParam::kMantissa);
  const auto check = [&](float x) {
    const unsigned sign = std::signbit(x) ? 0x8000 : 0;
    ASSERT_EQ(TypeParam::narrow(x), sign | nearest(x, table)) << std::hexfloat << x;
  };
  // Every midpoint of neighbours, and the floats beside it.
  for (std::size_t i = 0; i + 1 < table.size(); ++i) {
    const auto middle = static_cast<float>((table[i] + table[i + 1]) / 2);
    for (const float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, INFINITY)}) {
      check(x);
      check(-x);
    }
  }
  std::mt19937 generator(11);
  for (int i = 0; i < 1000000; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(generator()));
    if (!std::isnan(x)) check(x);
  }
  check(INFINITY);
  check(-INFINITY);
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0x7fc00000u})  // NaN stays NaN
    EXPECT_TRUE(std::isnan(TypeParam::widen(TypeParam::narrow(std::bit_cast<float>(bits)))));
}

TEST(DType, NamesSizesAndErrors) {
  EXPECT_EQ(parse_dtype("bf16"), DType::bf16);
  EXPECT_EQ(name(DType::q4_1), "q4_1");
  EXPECT_EQ(bytes_of(DType::q4_1, 64), 40);
  EXPECT_EQ(bytes_of(DType::q6_k, 256), 210);
  EXPECT_EQ(bytes_of(DType::f64, 3), 24);
  for (int i = 0; i <= static_cast<int>(DType::mxfp4); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(name(dtype)), dtype);
    EXPECT_EQ(is_quantised(dtype), info(dtype).block_values > 1);
  }
  EXPECT_THROW(parse_dtype("f8"), UsageError);
  EXPECT_THROW(bytes_of(DType::f64, std::int64_t{1} << 61), Error);  // more than 63 bits of bytes
  EXPECT_THROW(bytes_of(DType::q4_0, 33), std::exception);           // no whole block
  EXPECT_THROW(bytes_of(DType::f32, -1), std::exception);
}

TEST(DType, DispatchPicksTheType) {
  const auto size = [](DType dtype) { return dispatch_float(dtype, [&]<class T>() { return sizeof(T); }); };
  EXPECT_EQ(size(DType::f32), 4u);
  EXPECT_EQ(size(DType::f16), 2u);
  EXPECT_TRUE(dispatch_float(DType::bf16, [&]<class T>() { return std::is_same_v<T, bf16>; }));
  EXPECT_THROW(size(DType::i32), Error);
}

}  // namespace
}  // namespace sonde
