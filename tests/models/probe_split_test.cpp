// Splits, labels and depth points. numpy's and scikit-learn's draws are checked against files that they made.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "io/json.h"
#include "io/table.h"
#include "models/probe/labels.h"
#include "models/probe/probe.h"
#include "models/probe/random.h"
#include "models/probe/split.h"
#include "runtime/error.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

using Texts = std::vector<std::string>;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ProbeSplit, IsScikitLearnsTrainTestSplit) {
  for (const char* name : {"cities.csv", "coin_flip.csv", "stsa.csv"}) {
    SONDE_REQUIRE_SHARED("data/concept_depth");
    const std::vector<std::string> paths{(shared_path / name).string()};
    const Table table = read_table(paths);
    const Split split = split_by_seed(table.rows(), 0.4, 42);
    EXPECT_EQ(split.test_fold, split_by_column(table.column("split"), "split").test_fold) << name;
  }
}

TEST(ProbeSplit, PermutationIsNumpys) {
  // np.random.RandomState(0).permutation(10) and RandomState(42).permutation(5), from numpy's documentation
  // of its frozen stream (NEP 19).
  EXPECT_EQ(numpy_permutation(10, 0), (std::vector<std::int64_t>{2, 8, 4, 9, 1, 6, 7, 3, 0, 5}));
  EXPECT_EQ(numpy_permutation(5, 42), (std::vector<std::int64_t>{1, 4, 2, 0, 3}));
}

TEST(ProbeSplit, GroupsStayTogether) {
  Texts groups;
  for (int i = 0; i < 200; ++i) groups.push_back("city " + std::to_string(i % 50));
  for (const Split& split : {split_by_groups(groups, 0.4, 42), split_groups_in_folds(groups, 5, 1)}) {
    std::vector<int> per_fold(5);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      EXPECT_EQ(split.test_fold[i], split.test_fold[i % 50]);
      if (split.test_fold[i] >= 0) ++per_fold[static_cast<std::size_t>(split.test_fold[i])];
    }
    EXPECT_EQ(per_fold[0], split.folds == 1 ? 80 : 40);
  }
}

TEST(ProbeSplit, FoldsTestEveryRowOnce) {
  const Split split = split_in_folds(11, 3, 42);
  std::vector<int> count(3);
  for (const std::int32_t fold : split.test_fold) ++count.at(static_cast<std::size_t>(fold));
  EXPECT_EQ(count, (std::vector<int>{4, 4, 3}));
}

TEST(ProbeSplit, BadInputIsOneClearError) {
  EXPECT_EQ(error_of([] {
              split_by_column(Texts{"train", "test", "dev"}, "split");
            }),
            "split column 'split', row 2 (from 0): found 'dev', expected train or test");
  EXPECT_EQ(error_of([] {
              split_by_column(Texts{"train", "train"}, "split");
            }),
            "split column 'split': no row says test");
  EXPECT_NE(error_of([] { split_by_seed(10, 1.5, 1); }), "no error");
  EXPECT_NE(error_of([] { split_by_seed(1, 0.4, 1); }), "no error");
  EXPECT_NE(error_of([] { split_in_folds(3, 4, 1); }), "no error");
  EXPECT_NE(error_of([] { encode_labels(Texts{"1", "1"}, "label"); }), "no error");
  EXPECT_NE(error_of([] { encode_labels(Texts{"1", "", "0"}, "label"); }), "no error");
  EXPECT_NE(error_of([] { numeric_labels(Texts{"1", "nan"}, "label"); }), "no error");
}

TEST(ProbeLabels, SortByValueOrByText) {
  EXPECT_EQ(encode_labels(Texts{"10", "9", "9.0"}, "l").classes, (Texts{"9", "10"}));
  EXPECT_EQ(encode_labels(Texts{"10", "9", "9.0"}, "l").of_document, (std::vector<std::int32_t>{1, 0, 0}));
  EXPECT_EQ(encode_labels(Texts{"yes", "no", "yes"}, "l").of_document, (std::vector<std::int32_t>{1, 0, 1}));
  EXPECT_EQ(encode_labels(Texts{"10", "9", "x"}, "l").classes, (Texts{"10", "9", "x"}));
}

TEST(DepthPoints, ByHand) {
  const std::vector<double> curve{0.5, 0.5, 0.56, 0.57, 0.56, 0.56};
  EXPECT_EQ(depth_points(curve).jump, 2);
  EXPECT_EQ(depth_points(curve).converging, 2);
  EXPECT_EQ(depth_points(std::vector<double>{0.5, 0.5}).jump, -1);
  EXPECT_EQ(depth_points(std::vector<double>{0.5, 0.5}).converging, -1);
  EXPECT_EQ(depth_points(std::vector<double>{}).jump, -1);
}

TEST(DepthPoints, Golden) {
  SONDE_REQUIRE_SHARED("data/concept_depth/curves_smollm2.json");
  const Json golden = read_json(shared_path);
  int curves = 0;
  for (const auto& [dataset, values] : golden["datasets"].items())
    for (const auto& [name, curve] : values["curves"].items()) {
      const DepthPoints points = depth_points(curve["accuracy"].get<std::vector<double>>());
      const auto expected = [&, &c = curve](const char* key) {
        return c[key].is_null() ? -1 : c[key].template get<int>();
      };
      EXPECT_EQ(points.jump, expected("jump_point")) << dataset << name;
      EXPECT_EQ(points.converging, expected("converging_point")) << dataset << name;
      ++curves;
    }
  EXPECT_GT(curves, 10);
}

}  // namespace
}  // namespace sonde
