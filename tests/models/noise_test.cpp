#include "models/noise.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/table.h"
#include "runtime/error.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

TEST(TextNoise, PrefixIsTheExperimentsOwn) {
  SONDE_REQUIRE_SHARED("data/concept_depth/cities_noise.csv");
  const std::string instruction = "Judge the statement is True or False. ";
  const std::string clean_file = (shared_path.parent_path() / "cities.csv").string(),
                    noisy_file = shared_path.string();
  std::vector<std::string> statements = read_table(std::span(&clean_file, 1)).column("text");
  for (std::string& text : statements) text.erase(0, instruction.size());
  TextNoise::parse("prefix").apply(statements, 42);
  const std::vector<std::string> expected = read_table(std::span(&noisy_file, 1)).column("text");
  ASSERT_EQ(statements.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_EQ(instruction + statements[i], expected[i]) << "row " << i;
}

TEST(TextNoise, CharswapMovesLettersOnlyAndAboutAsOftenAsAsked) {
  std::vector<std::string> texts(400, "abcdefghijklmnopqrstuvwxyz 0123 \xc3\xa9\xc3\xa9");
  const std::string original = texts[0];
  TextNoise::parse("charswap:0.25").apply(texts, 7);
  double moved = 0;
  for (const std::string& text : texts) {
    ASSERT_EQ(text.substr(26), original.substr(26));
    ASSERT_TRUE(std::ranges::is_permutation(text, original));
    for (std::size_t i = 0; i + 1 < 26; ++i)
      moved += text[i] == original[i + 1] && text[i + 1] == original[i];
  }
  // A pair is looked at unless the one before it was swapped: p / (1 + p) of 25 pairs, about 5.
  EXPECT_NEAR(moved / 400, 25 * 0.25 / 1.25, 0.5);

  std::vector<std::string> same(3, original);
  TextNoise::parse("charswap:0").apply(same, 7);
  EXPECT_EQ(same[2], original);
}

TEST(TextNoise, RefusesOtherForms) {
  for (const char* text : {"", "suffix", "charswap:", "charswap:1.5", "charswap:0.1x"})
    EXPECT_THROW(TextNoise::parse(text), UsageError) << text;
}

}  // namespace
}  // namespace sonde
