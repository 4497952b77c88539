// dtypes, the hook table, site patterns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/dtype.h"
#include "runtime/error.h"
#include "runtime/tensor.h"

namespace sonde {
namespace {

// The value of a half, from the definition.
double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double size = exponent == 0    ? std::ldexp(mantissa, -24)
                      : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                       : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

TEST(DType, EveryHalfAndBf16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto b = static_cast<std::uint16_t>(bits);
    const float h = to_float(f16{b}), w = to_float(bf16{b});
    if (std::isnan(half_value(b))) {
      EXPECT_TRUE(std::isnan(h) && std::isnan(to_float(to_f16(h))));
    } else {
      ASSERT_TRUE(h == half_value(b) && to_f16(h).bits == b) << bits;
    }
    if (std::isnan(w)) {
      EXPECT_TRUE(std::isnan(to_float(to_bf16(w))));
    } else {
      ASSERT_EQ(to_bf16(w).bits, b);
    }
  }
}

TEST(DType, RoundingIsToTheNearestAndTiesGoToEven) {
  std::mt19937 generator(1);
  for (int i = 0; i < 200000; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(generator()));
    if (!std::isfinite(x)) continue;
    const std::uint16_t b = to_bf16(x).bits;
    if (std::isfinite(to_float(bf16{b}))) {
      const double found = std::abs(double{to_float(bf16{b})} - x);
      for (const int step : {-1, 1}) {
        const double other = std::abs(double{to_float(bf16{static_cast<std::uint16_t>(b + step)})} - x);
        if (std::isfinite(other)) {
          ASSERT_TRUE(found < other || (found == other && b % 2 == 0)) << x;
        }
      }
    }
    const float y = std::ldexp(1.0f + static_cast<float>(generator() % 16777216) * 0x1p-24f,
                               static_cast<int>(generator() % 44) - 27);
    const std::uint16_t h = to_f16(y).bits;
    if (std::abs(y) >= 65520) {
      ASSERT_TRUE(std::isinf(to_float(f16{h})));
      continue;
    }
    const double found = std::abs(half_value(h) - y),
                 up = std::abs(half_value(static_cast<std::uint16_t>(h + 1)) - y),
                 down = h == 0 ? INFINITY : std::abs(half_value(static_cast<std::uint16_t>(h - 1)) - y);
    if (h < 0x7bff) {
      ASSERT_TRUE(found < up || (found == up && h % 2 == 0)) << y;
    }
    ASSERT_TRUE(found < down || (found == down && h % 2 == 0)) << y;
  }
}

TEST(DType, BlocksAndNames) {
  EXPECT_EQ(bytes_of(DType::q4_1, 64), 40);
  EXPECT_EQ(bytes_of(DType::q6_k, 256), 210);
  EXPECT_THROW(bytes_of(DType::q4_1, 33), Error);
  EXPECT_THROW(bytes_of(DType::f64, std::int64_t{1} << 61), Error);
  EXPECT_EQ(parse_dtype("iq4_xs"), DType::iq4_xs);
  EXPECT_THROW(parse_dtype("f8"), UsageError);
}

TEST(Tensor, ViewsOfColumnsAndRows) {
  const OwnedTensor t = make_tensor(DType::f32, {3, 8});
  for (int i = 0; i < 24; ++i) t.view.f32()[i] = static_cast<float>(i);
  const Tensor heads = t.view.slice_columns(2, 4).reshape_row({2, 2});
  EXPECT_EQ(heads.row(1)[0], 10);
  EXPECT_FALSE(heads.contiguous());
  EXPECT_EQ(heads.slice_rows(2, 1).row(0)[3], 21);
  EXPECT_THROW(t.view.slice_columns(6, 4), Error);
  EXPECT_THROW(t.view.slice_rows(2, 2), Error);
}

}  // namespace
}  // namespace sonde
