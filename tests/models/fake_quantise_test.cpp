#include "models/fake_quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "runtime/error.h"

namespace sonde {
namespace {

std::vector<float> quantised(std::vector<float> w, std::int64_t rows, WeightFormat format) {
  fake_quantise(Tensor(w.data(), DType::f32, {rows, static_cast<std::int64_t>(w.size()) / rows}), format);
  return w;
}

TEST(FakeQuantise, Int8IsPerOutputRow) {
  // Row 0: s = 2; 3 / 2 and 5 / 2 are ties, both go to the even 2. Row 1: s = 1.
  EXPECT_EQ(quantised({254, 3, 5, -7, 127, 3, 5, -7}, 2, WeightFormat::int8),
            (std::vector<float>{254, 4, 4, -8, 127, 3, 5, -7}));
}

TEST(FakeQuantise, Int4IsPerGroupOf64AndAShorterLastOne) {
  std::vector<float> w(130, 1.0f);
  w[0] = 14;     // s = 2 in the first group: 1 / 2 ties to 0
  w[64] = -7;    // s = 1 in the second
  w[129] = 3.5;  // s = 0.5 in the last, of two values
  std::vector<float> expected(130, 0.0f);
  expected[0] = 14;
  std::fill(expected.begin() + 64, expected.end(), 1.0f);
  expected[64] = -7;
  expected[129] = 3.5;
  EXPECT_EQ(quantised(w, 1, WeightFormat::int4), expected);
}

TEST(FakeQuantise, AgreesWithTheDefinitionOnRandomWeights) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  for (const std::int64_t width : {1, 7, 63, 64, 65, 257}) {
    std::vector<float> w(static_cast<std::size_t>(3 * width));
    for (float& x : w) x = normal(generator);
    for (const auto& [format, group, levels] : {std::tuple{WeightFormat::int8, width, 127.0f},
                                                std::tuple{WeightFormat::int4, std::int64_t{64}, 7.0f}}) {
      std::vector<float> expected = w;
      for (std::int64_t r = 0; r < 3; ++r)
        for (std::int64_t first = 0; first < width; first += group) {
          const std::int64_t end = std::min(first + group, width);
          float most = 0;
          for (std::int64_t i = first; i < end; ++i)
            most = std::max(most, std::fabs(w[static_cast<std::size_t>(r * width + i)]));
          const float s = most / levels;
          for (std::int64_t i = first; i < end; ++i) {
            float& x = expected[static_cast<std::size_t>(r * width + i)];
            const float q = x / s, down = std::floor(q), rest = q - down;
            const bool up = rest > 0.5f || (rest == 0.5f && std::fmod(down, 2.0f) != 0);
            x = (up ? down + 1 : down) * s;
          }
        }
      EXPECT_EQ(quantised(w, 3, format), expected) << width;
    }
  }
}

TEST(FakeQuantise, Bf16AndAsStored) {
  EXPECT_EQ(quantised({1.00390625f, 1.01171875f, -3}, 1, WeightFormat::bf16),
            (std::vector<float>{1, 1.015625f, -3}));
  EXPECT_EQ(quantised({1.00390625f, 0.1f}, 1, WeightFormat::as_stored),
            (std::vector<float>{1.00390625f, 0.1f}));
}

TEST(FakeQuantise, ZerosAndTheSmallestNumbersStayFinite) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4, WeightFormat::bf16})
    for (const float x : quantised({0, 0, 0, tiny, -tiny, 0}, 2, format)) EXPECT_TRUE(std::isfinite(x));
}

TEST(FakeQuantise, Names) {
  for (const char* text : {"f32", "bf16", "int8", "int4"}) EXPECT_EQ(name(parse_weight_format(text)), text);
  EXPECT_THROW(parse_weight_format("int3"), UsageError);
}

}  // namespace
}  // namespace sonde
