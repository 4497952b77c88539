// Frequencies and angle rows of RoPE, against the oracle and on what packing must not change.
#include "models/rope.h"

#include <gtest/gtest.h>

#include "tests/models/model_folder.h"
#include "tests/oracle/decoder_forward.h"

namespace sonde::test {
namespace {

RopeSpec dynamic_rope() {
  RopeSpec rope;
  rope.scaling = RopeScaling::dynamic;
  rope.factor = 4;
  rope.original_context = 10;
  return rope;
}

void expect_close(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i] / expected[i], 1, 1e-13) << i;
}

TEST(Rope, FrequenciesOfEveryRule) {
  const std::pair<RopeScaling, const char*> rules[] = {{RopeScaling::none, "default"},
                                                       {RopeScaling::linear, "linear"},
                                                       {RopeScaling::dynamic, "dynamic"},
                                                       {RopeScaling::llama3, "llama3"},
                                                       {RopeScaling::yarn, "yarn"}};
  for (const auto& [scaling, name] : rules)
    for (const int d_head : {4, 32, 64, 128, 256})
      for (const int length : {1, 8192, 100000}) {
        RopeSpec spec;
        spec.theta = 500000;
        spec.scaling = scaling;
        spec.factor = 8;
        spec.original_context = 8192;
        const oracle::Rope rope{.rule = name, .theta = 500000, .factor = 8, .original = 8192};
        SCOPED_TRACE(std::string(name) + " " + std::to_string(d_head) + " " + std::to_string(length));
        expect_close(rope_frequencies(spec, d_head, length), oracle::frequencies(rope, d_head, length));
      }
}

TEST(Rope, LongRopeChoosesByLength) {
  RopeSpec spec;
  spec.scaling = RopeScaling::longrope;
  spec.original_context = 4096;
  spec.short_factors = {1, 1.5, 2};
  spec.long_factors = {2, 8, 64};
  const oracle::Rope rope{
      .rule = "longrope", .original = 4096, .short_factor = {1, 1.5, 2}, .long_factor = {2, 8, 64}};
  for (const int length : {1, 4095, 4096, 4097, 131072})
    expect_close(rope_frequencies(spec, 6, length), oracle::frequencies(rope, 6, length));
}

// An angle of a million turns keeps its place in the turn: positions times frequencies are doubles.
TEST(Rope, LargePositionsKeepTheirAngle) {
  RopeSpec rope;
  rope.theta = 1e6;
  RopeRows rows(rope, 4);
  const std::int32_t position = 999983, starts[] = {0, 1}, positions[] = {position};
  const auto row = rows.rows(Documents{starts}, positions);
  const RopeTable table = rows.table();
  for (int i = 0; i < 2; ++i) {
    const long double angle = position * std::pow(1e6L, -2.0L * i / 4);
    EXPECT_NEAR(table.cos.row(row[0])[i], std::cos(angle), 1e-7) << i;
    EXPECT_NEAR(table.sin.row(row[0])[i], std::sin(angle), 1e-7) << i;
  }
}

TEST(Rope, DivisorsDivide) {
  RopeSpec rope;
  const auto plain = rope_frequencies(rope, 6, 1);
  rope.divisors = {1, 2, 8};
  expect_close(rope_frequencies(rope, 6, 1), {plain[0], plain[1] / 2, plain[2] / 8});
}

// The row of each token holds the angles of its position, whatever came before and however documents are
// packed.
TEST(Rope, RowsHoldTheAnglesOfTheirPositions) {
  for (const bool dynamic : {false, true}) {
    const RopeSpec rope = dynamic ? dynamic_rope() : RopeSpec{};
    RopeRows rows(rope, 8);
    for (const std::vector<int>& lengths :
         std::vector<std::vector<int>>{{3, 25, 1, 10, 11}, {2}, {0, 40, 7, 0}, {12, 5}}) {
      std::vector<std::int32_t> starts{0}, positions;
      for (int length : lengths) {
        for (int p = 0; p < length; ++p) positions.push_back(p);
        starts.push_back(static_cast<std::int32_t>(positions.size()));
      }
      const auto row_of = rows.rows(Documents{starts}, positions);
      const RopeTable table = rows.table();
      ASSERT_EQ(row_of.size(), positions.size());
      for (std::size_t d = 0; d < lengths.size(); ++d) {
        const auto frequencies = rope_frequencies(rope, 8, lengths[d]);
        for (int p = 0; p < lengths[d]; ++p) {
          const std::int64_t row = row_of[static_cast<std::size_t>(starts[d] + p)];
          ASSERT_LT(row, table.cos.rows());
          for (std::size_t i = 0; i < 4; ++i) {
            EXPECT_EQ(table.cos.row(row)[i], static_cast<float>(std::cos(p * frequencies[i])));
            EXPECT_EQ(table.sin.row(row)[i], static_cast<float>(std::sin(p * frequencies[i])));
          }
        }
      }
    }
  }
}

TEST(Rope, OnlyStretchedDocumentsTurnDifferently) {
  const auto at = [](std::int64_t length) { return rope_frequencies(dynamic_rope(), 8, length); };
  EXPECT_EQ(at(1), at(10));
  EXPECT_NE(at(10), at(11));
  EXPECT_NE(at(11), at(12));
}

}  // namespace
}  // namespace sonde::test
