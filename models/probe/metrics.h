// How good predictions are. A value that is not defined (AUC of one class) is NaN; outputs show it as empty
// or null.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace sonde {

inline constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

struct Metrics {
  std::int64_t correct = 0;
  double accuracy = kUndefined;
  double balanced_accuracy = kUndefined;  // mean recall; undefined when one of two classes is absent
  double f1 = kUndefined;                 // of label 1; 0 without a true positive; several classes: macro
  double f1_label0 = kUndefined;          // of label 0 (the first class)
  double auc = kUndefined;              // a tie counts one half; several classes: one against the rest, macro
  double log_loss = kUndefined;         // mean, natural logarithm; only where scores are log odds
  double ece = kUndefined;              // confidence max(p, 1-p) against being right, 15 bins
  double ece_probability = kUndefined;  // p against label 1, 15 bins; two classes only
};

// What a score means: log_odds gives probabilities (logistic, lda); a margin only ranks (ridge,
// mean-difference).
enum class ScoreKind { log_odds, margin };

// Two classes: label 1 is predicted where the score is above 0.
Metrics binary_metrics(std::span<const double> scores /*[n]*/,
                       std::span<const std::int32_t> labels /*[n] 0|1*/, ScoreKind kind);
// The same from probabilities: label 1 where p > 1/2; for the log-loss p is clipped to [2^-52, 1 - 2^-52].
Metrics probability_metrics(std::span<const double> p /*[n]*/,
                            std::span<const std::int32_t> labels /*[n] 0|1*/);
// C classes: the highest score is predicted, the first of equals.
Metrics class_metrics(std::span<const double> scores /*[n, C]*/,
                      std::span<const std::int32_t> labels /*[n] 0..C-1*/, std::int64_t C, ScoreKind kind);

// Probability that a positive row scores above a negative one, ties one half; NaN when a class is absent.
double auc(std::span<const double> scores, std::span<const std::int32_t> positive);
// Expected calibration error: 15 bins of equal width, sum of (share of rows) |mean(hit) - mean(p)|.
double calibration_error(std::span<const double> p, std::span<const std::int32_t> hit);

// Scores of a test set, whichever number of classes: the form that intervals resample.
struct Predictions {
  std::int64_t C = 1;                // columns of scores: 1 for two classes
  std::vector<double> scores;        // [n, C]
  std::vector<std::int32_t> labels;  // [n]
  ScoreKind kind = ScoreKind::log_odds;
};
Metrics metrics_of(const Predictions& predictions);

struct Interval {
  double low = kUndefined, high = kUndefined;
};
struct Intervals {
  Interval accuracy, balanced_accuracy, f1, auc, log_loss;
};
// 95 % percentile intervals over `resamples` bootstrap draws of the test rows; a draw in which a metric is
// undefined does not count for it. Depends on the seed alone, not on threads. 0 resamples: undefined.
Intervals bootstrap_intervals(const Predictions& predictions, int resamples, std::uint64_t seed);

}  // namespace sonde
