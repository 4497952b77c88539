// L2 logistic regression, two classes or several, to a stated gradient: the objective is scikit-learn's,
//   two classes   1/2 w.w + C sum_i log(1 + exp(-s_i (w.z_i + b)))
//   several       1/2 sum_kj W_kj^2 - C sum_i log softmax(W z_i + b)[y_i], with sum_k b_k = 0
// over the train rows, b not penalised. Its Hessian in w is at least the identity, so a gradient g certifies
// that w is within |g| of the minimum.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/probe/linear_model.h"

namespace sonde {

enum class Solver { automatic, newton, lbfgs };

struct LogisticOptions {
  double C = 1;
  Solver solver = Solver::automatic;  // Newton up to kNewtonSize parameters or train rows, L-BFGS beyond
  double tolerance = 1e-7;            // of the largest entry of the objective's gradient
  int max_iterations = 10000;         // of L-BFGS; Newton gets 200
};
inline constexpr std::int64_t kNewtonSize = 2000;

struct Fit {
  std::vector<double> w, b;  // [C, D], [C] on centred and scaled features
  double objective = 0;
  double gradient_max = 0;  // largest entry, in the coordinates of the features as the user gave them
  int iterations = 0;
  bool converged = false;  // gradient_max <= tolerance, nothing else
};

Fit fit_logistic(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels /*[n]*/,
                 std::int64_t classes, const LogisticOptions& options);

}  // namespace sonde
