#include "models/probe/linear_model.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace sonde {

std::vector<double> LinearModel::scores(ProbeOps& ops, const float* x, std::int64_t stride,
                                        std::span<const std::int64_t> rows) const {
  std::vector<double> v(w), out(rows.size() * b.size());
  for (std::size_t i = 0; i < v.size(); ++i) v[i] /= scale[i % static_cast<std::size_t>(D)];
  ops.scores(out, FeatureRows{x, stride, D, rows, mean}, v, b);
  return out;
}

TrainingRows::TrainingRows(ProbeOps& ops, const float* features, std::int64_t D,
                           std::span<const std::int64_t> rows, bool standardise)
    : mean(static_cast<std::size_t>(D)), scale(static_cast<std::size_t>(D), 1.0), standardised(standardise) {
  n = static_cast<double>(rows.size());
  ops.join({&n, 1});
  sonde_check(n > 0, "no train rows");
  const std::vector<double> ones(rows.size(), 1.0), zero(static_cast<std::size_t>(D));
  // Twice: the second pass corrects the first's rounding, and a constant column gets exactly its value.
  if (!rows.empty()) std::copy_n(features + rows[0] * D, D, mean.begin());
  ops.take_first(mean, !rows.empty());
  std::vector<double> correction(static_cast<std::size_t>(D));
  for (int pass = 0; pass < 2; ++pass) {
    ops.weighted_sums(correction, FeatureRows{features, D, D, rows, mean}, ones);
    for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += correction[j] / n;
  }
  x = FeatureRows{features, D, D, rows, mean};
  if (!standardise) return;
  ops.squares(scale, x);
  for (double& s : scale) s = s > 0 ? std::sqrt(s / n) : 1.0;
}

LinearModel TrainingRows::model(std::vector<double> w, std::vector<double> b) const {
  LinearModel out{x.D, static_cast<std::int64_t>(b.size()), std::move(w), std::move(b), mean, scale};
  if (standardised) return out;
  for (std::size_t c = 0; c < out.b.size(); ++c)
    for (std::size_t j = 0; j < mean.size(); ++j) out.b[c] -= out.w[c * mean.size() + j] * mean[j];
  out.mean.assign(mean.size(), 0.0);
  return out;
}

}  // namespace sonde
