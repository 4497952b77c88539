// Bootstrap intervals: draw test rows with replacement, measure again, take the 2.5 and 97.5 % percentiles.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/probe/metrics.h"
#include "models/probe/random.h"

namespace sonde {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Percentile with linear interpolation between the sorted defined values.
double percentile(std::span<const double> sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (place - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Interval interval_of(std::vector<double> values) {
  std::erase_if(values, [](double v) { return std::isnan(v); });
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {percentile(values, 0.025), percentile(values, 0.975)};
}

// A binary test set, rows sorted by score, so that one draw is measured by counting.
class SortedBinary {
 public:
  explicit SortedBinary(const Predictions& p) : n_(p.labels.size()), kind_(p.kind) {
    std::vector<std::size_t> order(n_);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return p.scores[a] < p.scores[b]; });
    for (std::size_t i = 0; i < n_; ++i) {
      const double score = p.scores[order[i]];
      rows_.push_back({p.labels[order[i]] != 0, score > 0, i > 0 && score == p.scores[order[i - 1]], 0});
      const double signed_score = rows_.back().positive ? -score : score;
      rows_.back().loss = std::max(signed_score, 0.0) + std::log1p(std::exp(-std::abs(signed_score)));
    }
  }

  Metrics measure(std::span<const std::uint32_t> times) const {
    double right[2] = {}, present[2] = {}, called = 0, wins = 0, below = 0, hits = 0, misses = 0, loss = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      const Row& row = rows_[i];
      if (!row.tied) {
        wins += hits * (below + misses / 2);
        below += misses;
        hits = misses = 0;
      }
      const double count = times[i];
      (row.positive ? hits : misses) += count;
      present[row.positive] += count;
      called += row.predicted ? count : 0;
      right[row.positive] += row.positive == row.predicted ? count : 0;
      loss += count * row.loss;
    }
    wins += hits * (below + misses / 2);
    Metrics m;
    m.accuracy = (right[0] + right[1]) / static_cast<double>(n_);
    m.f1 = right[1] == 0 ? 0 : 2 * right[1] / (called + present[1]);
    if (kind_ == ScoreKind::log_odds) m.log_loss = loss / static_cast<double>(n_);
    if (present[0] == 0 || present[1] == 0) return m;
    m.balanced_accuracy = (right[0] / present[0] + right[1] / present[1]) / 2;
    m.auc = wins / (present[0] * present[1]);
    return m;
  }

 private:
  struct Row {
    bool positive, predicted, tied;
    double loss;
  };
  std::vector<Row> rows_;
  std::size_t n_;
  ScoreKind kind_;
};

Metrics measure_classes(const Predictions& p, std::span<const std::uint32_t> times) {
  Predictions drawn{p.C, {}, {}, p.kind};
  for (std::size_t i = 0; i < times.size(); ++i)
    for (std::uint32_t t = 0; t < times[i]; ++t) {
      drawn.labels.push_back(p.labels[i]);
      drawn.scores.insert(drawn.scores.end(), p.scores.begin() + static_cast<std::int64_t>(i) * p.C,
                          p.scores.begin() + static_cast<std::int64_t>(i + 1) * p.C);
    }
  return metrics_of(drawn);
}

}  // namespace

Intervals bootstrap_intervals(const Predictions& p, int resamples, std::uint64_t seed) {
  if (resamples == 0) return {};
  const auto n = static_cast<std::int64_t>(p.labels.size());
  std::vector<double> accuracy(at(resamples)), balanced(at(resamples)), f1(at(resamples)),
      areas(at(resamples)), loss(at(resamples));
  const SortedBinary sorted = p.C == 1 ? SortedBinary(p) : SortedBinary(Predictions{});
#pragma omp parallel
  {
    std::vector<std::uint32_t> times(at(n));
#pragma omp for schedule(static)
    for (int r = 0; r < resamples; ++r) {
      SplitMix random(seed, static_cast<std::uint64_t>(r));
      std::fill(times.begin(), times.end(), 0u);
      for (std::int64_t i = 0; i < n; ++i)
        ++times[at(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(n))))];
      const Metrics m = p.C == 1 ? sorted.measure(times) : measure_classes(p, times);
      accuracy[at(r)] = m.accuracy;
      balanced[at(r)] = m.balanced_accuracy;
      f1[at(r)] = m.f1;
      areas[at(r)] = m.auc;
      loss[at(r)] = m.log_loss;
    }
  }
  return {interval_of(accuracy), interval_of(balanced), interval_of(f1), interval_of(areas),
          interval_of(loss)};
}

}  // namespace sonde
