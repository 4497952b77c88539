#include "models/probe/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "models/probe/labels.h"
#include "models/probe/random.h"
#include "runtime/error.h"

namespace sonde {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::int64_t test_count(std::int64_t n, double fraction, const char* what) {
  if (!(fraction > 0 && fraction < 1))
    throw UsageError(fmt::format("test fraction: found {}, expected a number between 0 and 1", fraction));
  const auto test = static_cast<std::int64_t>(std::ceil(fraction * static_cast<double>(n)));
  if (test >= n || test == 0)
    fail_hint("use more rows, or another --test-fraction",
              "a test fraction of {} of {} {} leaves {} for training", fraction, n, what, n - test);
  return test;
}

// The fold of each place of a permutation of n: the first n % k folds have one more.
std::vector<std::int32_t> folds_of(std::int64_t n, int k, std::uint32_t seed, const char* what) {
  if (k < 2 || k > n)
    throw UsageError(fmt::format("--folds {}: expected 2 to {} (the number of {})", k, n, what));
  const std::vector<std::int64_t> order = numpy_permutation(n, seed);
  std::vector<std::int32_t> fold(at(n));
  std::int64_t place = 0;
  for (int f = 0; f < k; ++f)
    for (std::int64_t i = 0; i < n / k + (f < n % k ? 1 : 0); ++i) fold[at(order[at(place++)])] = f;
  return fold;
}

}  // namespace

std::vector<std::int64_t> numpy_permutation(std::int64_t n, std::uint32_t seed) {
  std::mt19937 random(seed);  // numpy seeds with the same recurrence
  std::vector<std::int64_t> order(at(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::int64_t i = n - 1; i > 0; --i) {  // j uniform in [0, i]: masked draws until one fits
    std::uint64_t mask = static_cast<std::uint64_t>(i), j = 0;
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    do {
      std::uint64_t bits = random();
      if (mask > 0xffffffffu) bits = bits << 32 | random();
      j = bits & mask;
    } while (j > static_cast<std::uint64_t>(i));
    std::swap(order[at(i)], order[j]);
  }
  return order;
}

Split split_by_seed(std::int64_t n, double test_fraction, std::uint32_t seed) {
  const std::int64_t test = test_count(n, test_fraction, "documents");
  const std::vector<std::int64_t> order = numpy_permutation(n, seed);
  Split split{1, std::vector<std::int32_t>(at(n), Split::kAlwaysTrain),
              fmt::format("by seed {}, {:g} % test", seed, 100 * test_fraction)};
  for (std::int64_t i = 0; i < test; ++i) split.test_fold[at(order[at(i)])] = 0;
  return split;
}

Split split_by_column(std::span<const std::string> values, const std::string& column) {
  Split split{1, {}, fmt::format("by column '{}'", column)};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != "train" && values[i] != "test")
      fail_hint("name another column with --split-column, or leave it out to split by --seed",
                "split column '{}', row {} (from 0): found '{}', expected train or test", column, i,
                values[i]);
    split.test_fold.push_back(values[i] == "test" ? 0 : Split::kAlwaysTrain);
  }
  for (const char* side : {"train", "test"})
    if (std::find(values.begin(), values.end(), side) == values.end())
      fail_hint("a probe needs rows on both sides", "split column '{}': no row says {}", column, side);
  return split;
}

Split split_by_groups(std::span<const std::string> groups, double test_fraction, std::uint32_t seed) {
  const Labels encoded = encode_classes(groups);
  const auto n = static_cast<std::int64_t>(encoded.classes.size());
  const std::int64_t test = test_count(n, test_fraction, "groups");
  const std::vector<std::int64_t> order = numpy_permutation(n, seed);
  std::vector<std::int32_t> side(at(n), Split::kAlwaysTrain);
  for (std::int64_t i = 0; i < test; ++i) side[at(order[at(i)])] = 0;
  Split split{1, {}, fmt::format("by {} groups, seed {}, {:g} % test", n, seed, 100 * test_fraction)};
  for (const std::int32_t group : encoded.of_document) split.test_fold.push_back(side[at(group)]);
  return split;
}

Split split_in_folds(std::int64_t n, int k, std::uint32_t seed) {
  return {k, folds_of(n, k, seed, "documents"), fmt::format("{} folds, seed {}", k, seed)};
}

Split split_groups_in_folds(std::span<const std::string> groups, int k, std::uint32_t seed) {
  const Labels encoded = encode_classes(groups);
  const auto n = static_cast<std::int64_t>(encoded.classes.size());
  const std::vector<std::int32_t> fold = folds_of(n, k, seed, "groups");
  Split split{k, {}, fmt::format("{} folds of {} groups, seed {}", k, n, seed)};
  for (const std::int32_t group : encoded.of_document) split.test_fold.push_back(fold[at(group)]);
  return split;
}

}  // namespace sonde
