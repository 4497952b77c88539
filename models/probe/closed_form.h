// Probes with a closed form: ridge, linear discriminant analysis, mean difference. Several classes: see each.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/probe/logistic.h"

namespace sonde {

// min sum_i |t_i - W z_i - b|^2 + alpha |W|^2, b not penalised, one row of W per target. t [n, C].
Fit fit_ridge(ProbeOps& ops, const TrainingRows& train, std::span<const double> t, std::int64_t C,
              double alpha);
// Ridge on -1/+1 targets: one for two classes, else one per class.
Fit fit_ridge_classifier(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                         std::int64_t classes, double alpha);
// Sigma = pooled maximum-likelihood covariance within classes, shrunk to (1-a) Sigma + a trace(Sigma)/D I.
// Two classes: w = Sigma^-1 (mu_1 - mu_0) with log priors; several: w_k = Sigma^-1 mu_k, scores are log odds.
Fit fit_lda(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
            std::int64_t classes, double shrinkage);
// w = mean(label 1) - mean(label 0), the threshold midway between the projected means; several classes: each
// one against the rest.
Fit fit_mean_difference(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                        std::int64_t classes);

}  // namespace sonde
