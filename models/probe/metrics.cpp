#include "models/probe/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/error.h"

namespace sonde {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

double f1_of(std::int64_t hits, std::int64_t predicted, std::int64_t present) {
  return hits == 0 ? 0.0 : 2.0 * static_cast<double>(hits) / static_cast<double>(predicted + present);
}

// Everything that needs only labels and predictions.
Metrics count_metrics(std::span<const std::int32_t> labels, std::span<const std::int32_t> predicted,
                      std::int64_t C) {
  std::vector<std::int64_t> hits(at(C)), called(at(C)), present(at(C));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    ++present[at(labels[i])];
    ++called[at(predicted[i])];
    if (labels[i] == predicted[i]) ++hits[at(labels[i])];
  }
  Metrics m;
  m.correct = std::accumulate(hits.begin(), hits.end(), std::int64_t{0});
  m.accuracy = static_cast<double>(m.correct) / static_cast<double>(labels.size());
  double recall = 0, f1 = 0;
  int classes = 0, seen = 0;
  for (std::int64_t c = 0; c < C; ++c) {
    if (present[at(c)] > 0) {
      recall += static_cast<double>(hits[at(c)]) / static_cast<double>(present[at(c)]);
      ++classes;
    }
    if (present[at(c)] + called[at(c)] > 0) {
      f1 += f1_of(hits[at(c)], called[at(c)], present[at(c)]);
      ++seen;
    }
  }
  if (C > 2 || classes == 2) m.balanced_accuracy = recall / classes;
  m.f1 = C == 2 ? f1_of(hits[1], called[1], present[1]) : f1 / seen;
  m.f1_label0 = f1_of(hits[0], called[0], present[0]);
  return m;
}

double log_1p_exp(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

void set_calibration(Metrics& m, std::span<const double> p, std::span<const std::int32_t> labels,
                     std::span<const std::int32_t> predicted) {
  std::vector<double> confidence(p.size());
  std::vector<std::int32_t> right(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    confidence[i] = std::max(p[i], 1 - p[i]);
    right[i] = labels[i] == predicted[i];
  }
  m.ece = calibration_error(confidence, right);
  m.ece_probability = calibration_error(p, labels);
}

}  // namespace

double auc(std::span<const double> scores, std::span<const std::int32_t> positive) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  double wins = 0, below = 0, positives = 0;  // counts: exact in double; pairs too, up to 2^53
  for (std::size_t i = 0; i < order.size();) {
    double hits = 0, misses = 0;
    const double tie = scores[order[i]];
    for (; i < order.size() && scores[order[i]] == tie; ++i) (positive[order[i]] != 0 ? hits : misses) += 1;
    wins += hits * (below + misses / 2);
    below += misses;
    positives += hits;
  }
  return positives == 0 || below == 0 ? kUndefined : wins / (positives * below);
}

double calibration_error(std::span<const double> p, std::span<const std::int32_t> hit) {
  constexpr int kBins = 15;
  double mass[kBins] = {}, hits[kBins] = {};
  for (std::size_t i = 0; i < p.size(); ++i) {
    const int bin = std::clamp(static_cast<int>(kBins * p[i]), 0, kBins - 1);
    mass[bin] += p[i];
    hits[bin] += hit[i];
  }
  double sum = 0;
  for (int b = 0; b < kBins; ++b) sum += std::abs(hits[b] - mass[b]);
  return sum / static_cast<double>(p.size());
}

Metrics binary_metrics(std::span<const double> scores, std::span<const std::int32_t> labels, ScoreKind kind) {
  sonde_check(!labels.empty() && scores.size() == labels.size(), "{} scores, {} labels", scores.size(),
              labels.size());
  std::vector<std::int32_t> predicted(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) predicted[i] = scores[i] > 0;
  Metrics m = count_metrics(labels, predicted, 2);
  m.auc = auc(scores, labels);
  if (kind == ScoreKind::margin) return m;
  std::vector<double> p(labels.size());
  double loss = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    p[i] = sigmoid(scores[i]);
    loss += log_1p_exp(labels[i] != 0 ? -scores[i] : scores[i]);
  }
  m.log_loss = loss / static_cast<double>(labels.size());
  set_calibration(m, p, labels, predicted);
  return m;
}

Metrics probability_metrics(std::span<const double> p, std::span<const std::int32_t> labels) {
  sonde_check(!labels.empty() && p.size() == labels.size(), "{} probabilities, {} labels", p.size(),
              labels.size());
  const double least = std::ldexp(1.0, -52);
  std::vector<std::int32_t> predicted(labels.size());
  double loss = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    predicted[i] = p[i] > 0.5;
    const double clipped = std::clamp(p[i], least, 1 - least);
    loss -= std::log(labels[i] != 0 ? clipped : 1 - clipped);
  }
  Metrics m = count_metrics(labels, predicted, 2);
  m.auc = auc(p, labels);
  m.log_loss = loss / static_cast<double>(labels.size());
  set_calibration(m, p, labels, predicted);
  return m;
}

Metrics class_metrics(std::span<const double> scores, std::span<const std::int32_t> labels, std::int64_t C,
                      ScoreKind kind) {
  const auto n = static_cast<std::int64_t>(labels.size());
  sonde_check(n > 0 && C > 2 && static_cast<std::int64_t>(scores.size()) == n * C,
              "{} scores, {} labels, {} classes", scores.size(), n, C);
  std::vector<double> p(scores.begin(), scores.end()), confidence(at(n));
  std::vector<std::int32_t> predicted(at(n)), right(at(n));
  double loss = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    double* row = p.data() + i * C;
    const double* best = std::max_element(row, row + C);
    predicted[at(i)] = static_cast<std::int32_t>(best - row);
    right[at(i)] = predicted[at(i)] == labels[at(i)];
    if (kind == ScoreKind::margin) continue;
    const double top = *best, mine = row[labels[at(i)]];
    double total = 0;
    for (std::int64_t c = 0; c < C; ++c) total += row[c] = std::exp(row[c] - top);
    for (std::int64_t c = 0; c < C; ++c) row[c] /= total;
    loss += std::log(total) + top - mine;
    confidence[at(i)] = row[predicted[at(i)]];
  }
  Metrics m = count_metrics(labels, predicted, C);
  if (kind == ScoreKind::log_odds) {
    m.log_loss = loss / static_cast<double>(n);
    m.ece = calibration_error(confidence, right);
  }
  double sum = 0;
  int classes = 0;
  std::vector<double> mine(at(n));
  std::vector<std::int32_t> positive(at(n));
  for (std::int64_t c = 0; c < C; ++c) {
    for (std::int64_t i = 0; i < n; ++i) {
      mine[at(i)] = p[at(i * C + c)];
      positive[at(i)] = labels[at(i)] == c;
    }
    const double one = auc(mine, positive);
    if (std::isnan(one)) continue;
    sum += one;
    ++classes;
  }
  if (classes > 0) m.auc = sum / classes;
  return m;
}

Metrics metrics_of(const Predictions& p) {
  return p.C == 1 ? binary_metrics(p.scores, p.labels, p.kind)
                  : class_metrics(p.scores, p.labels, p.C, p.kind);
}

}  // namespace sonde
