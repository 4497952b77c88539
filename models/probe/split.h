// Which documents train a probe and which test it. Drawn over documents, so that all rows of one are on one
// side.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sonde {

// test_fold[i] is the fold that tests on document i; kAlwaysTrain trains in every fold. A plain split has one
// fold.
struct Split {
  static constexpr std::int32_t kAlwaysTrain = -1;
  int folds = 1;
  std::vector<std::int32_t> test_fold;
  std::string how;  // "by seed 42, 40 % test": for reports
};

// scikit-learn's train_test_split(range(n), test_size=test_fraction, random_state=seed), exactly.
Split split_by_seed(std::int64_t n, double test_fraction, std::uint32_t seed);
// Values "train" and "test"; `where(row)` names a row in messages.
Split split_by_column(std::span<const std::string> values, const std::string& column);
// scikit-learn's GroupShuffleSplit(1, test_size=test_fraction, random_state=seed): the fraction is one of
// groups.
Split split_by_groups(std::span<const std::string> groups, double test_fraction, std::uint32_t seed);
// scikit-learn's KFold(k, shuffle=True, random_state=seed).
Split split_in_folds(std::int64_t n, int k, std::uint32_t seed);
// The same over groups: the folds share the groups out evenly, not the rows.
Split split_groups_in_folds(std::span<const std::string> groups, int k, std::uint32_t seed);

}  // namespace sonde
