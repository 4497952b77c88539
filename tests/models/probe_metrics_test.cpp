// Metrics against the goldens and their corner cases.
#include <gtest/gtest.h>

#include <cmath>

#include "models/probe/metrics.h"
#include "tests/models/probe_golden.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

TEST(ProbeMetrics, Golden) {
  SONDE_REQUIRE_SHARED("data/concept_depth");
  const test::SolverGolden golden(shared_path);
  int cases = 0;
  for (const auto& [name, expected] : golden.values["metrics"].items()) {
    SCOPED_TRACE(name);
    const Metrics m = probability_metrics(golden.get<double>("metrics." + name + ".p"),
                                          golden.get<std::int32_t>("metrics." + name + ".y"));
    const auto expect = [&, &want = expected](const char* key, double found) {
      SCOPED_TRACE(key);
      if (want[key].is_null())
        EXPECT_TRUE(std::isnan(found));
      else
        EXPECT_NEAR(found, want[key].get<double>(), 1e-14 * (1 + std::abs(found)));
    };
    expect("accuracy", m.accuracy);
    expect("balanced_accuracy", m.balanced_accuracy);
    expect("f1", m.f1);
    expect("f1_label0", m.f1_label0);
    expect("auc", m.auc);
    expect("log_loss", m.log_loss);
    expect("ece_15_probability", m.ece_probability);
    expect("ece_15_confidence", m.ece);
    ++cases;
  }
  EXPECT_EQ(cases, 7);
}

TEST(ProbeMetrics, MarginsHaveNoProbabilities) {
  const Metrics m =
      binary_metrics(std::vector<double>{-1, 2, 3}, std::vector<std::int32_t>{0, 0, 1}, ScoreKind::margin);
  EXPECT_DOUBLE_EQ(m.accuracy, 2.0 / 3);
  EXPECT_DOUBLE_EQ(m.auc, 1);
  EXPECT_TRUE(std::isnan(m.log_loss));
  EXPECT_TRUE(std::isnan(m.ece));
}

TEST(ProbeMetrics, LogLossOfCertainAndWrongScoresIsTheScore) {
  const Metrics m =
      binary_metrics(std::vector<double>{1000, -1000}, std::vector<std::int32_t>{0, 1}, ScoreKind::log_odds);
  EXPECT_DOUBLE_EQ(m.log_loss, 1000);
}

TEST(ProbeMetrics, SeveralClassesByHand) {
  // Predictions 0, 1, 1, 2, 2 of labels 0, 1, 2, 2, 0.
  const std::vector<double> scores{3, 0, 0, 0, 3, 0, 0, 3, 1, 0, 0, 3, 1, 0, 3};
  const Metrics m = class_metrics(scores, std::vector<std::int32_t>{0, 1, 2, 2, 0}, 3, ScoreKind::log_odds);
  EXPECT_EQ(m.correct, 3);
  EXPECT_DOUBLE_EQ(m.balanced_accuracy, (0.5 + 1 + 0.5) / 3);
  EXPECT_DOUBLE_EQ(m.f1_label0, 2.0 / 3);
  EXPECT_DOUBLE_EQ(m.f1, (2.0 / 3 + 2.0 / 3 + 0.5) / 3);
}

TEST(ProbeMetrics, BootstrapCoversAndRepeats) {
  Predictions p;
  for (int i = 0; i < 400; ++i) {
    p.scores.push_back((i * 37 % 101) / 50.0 - 1);
    p.labels.push_back(p.scores.back() + (i * 53 % 97) / 97.0 > 0.5);
  }
  const Metrics m = metrics_of(p);
  const Intervals a = bootstrap_intervals(p, 2000, 1), b = bootstrap_intervals(p, 2000, 1),
                  c = bootstrap_intervals(p, 2000, 2);
  EXPECT_EQ(a.accuracy.low, b.accuracy.low);
  EXPECT_EQ(a.auc.high, b.auc.high);
  EXPECT_NE(a.auc.low, c.auc.low);
  const double error = std::sqrt(m.accuracy * (1 - m.accuracy) / 400);  // the normal interval, nearly
  EXPECT_NEAR(a.accuracy.low, m.accuracy - 1.96 * error, 0.25 * error);
  EXPECT_NEAR(a.accuracy.high, m.accuracy + 1.96 * error, 0.25 * error);
  for (const auto& [interval, value] : {std::pair{a.auc, m.auc},
                                        {a.f1, m.f1},
                                        {a.log_loss, m.log_loss},
                                        {a.balanced_accuracy, m.balanced_accuracy}}) {
    EXPECT_LT(interval.low, value);
    EXPECT_GT(interval.high, value);
  }
}

TEST(ProbeMetrics, BootstrapOfOneRowRepeatedIsThatRow) {
  const Predictions p{1, {2, 2, 2}, {1, 1, 1}, ScoreKind::log_odds};
  const Intervals i = bootstrap_intervals(p, 50, 3);
  EXPECT_EQ(i.accuracy.low, 1);
  EXPECT_EQ(i.accuracy.high, 1);
  EXPECT_DOUBLE_EQ(i.log_loss.low, std::log1p(std::exp(-2)));
  EXPECT_TRUE(std::isnan(i.auc.low));  // one class in every draw
}

TEST(ProbeMetrics, BootstrapOfSeveralClassesCovers) {
  Predictions p{3, {}, {}, ScoreKind::log_odds};
  for (int i = 0; i < 300; ++i) {
    p.labels.push_back(i % 3);
    for (int c = 0; c < 3; ++c) p.scores.push_back((c == i % 3) * 0.5 + (i * (31 + 7 * c) % 89) / 60.0);
  }
  const Metrics m = metrics_of(p);
  const Intervals i = bootstrap_intervals(p, 500, 7);
  const double error = std::sqrt(m.accuracy * (1 - m.accuracy) / 300);
  EXPECT_NEAR(i.accuracy.high - i.accuracy.low, 2 * 1.96 * error, 0.5 * error);
  EXPECT_LT(i.auc.low, m.auc);
  EXPECT_GT(i.auc.high, m.auc);
}

}  // namespace
}  // namespace sonde
