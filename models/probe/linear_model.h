// A trained probe: score_c(x) = w_c . (x - mean) / scale + b_c, in float64.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/probe_ops.h"

namespace sonde {

struct LinearModel {
  std::int64_t D = 0, C = 0;        // C is 1 for two classes
  std::vector<double> w;            // [C, D]
  std::vector<double> b;            // [C]
  std::vector<double> mean, scale;  // [D]; 0 and 1 for features used as they are

  std::vector<double> scores(ProbeOps& ops, const float* x, std::int64_t stride,
                             std::span<const std::int64_t> rows) const;  // [n, C]
};

// Train rows as every solver sees them: x.shift is their mean in any case (an unpenalised intercept absorbs
// it, and centred sums keep their digits); scale is the population deviation, 1 where that is 0, or 1 for raw
// features.
struct TrainingRows {
  FeatureRows x;
  std::vector<double> mean, scale;  // [D]
  double n = 0;                     // rows, with those of other processes that share the pass
  bool standardised = true;

  TrainingRows(ProbeOps& ops, const float* features, std::int64_t D, std::span<const std::int64_t> rows,
               bool standardise);
  TrainingRows(const TrainingRows&) = delete;
  // From w, b on the centred features to the form users see: raw features get their own intercept.
  LinearModel model(std::vector<double> w /*[C, D]*/, std::vector<double> b /*[C]*/) const;
};

}  // namespace sonde
