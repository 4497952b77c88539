#include "models/probe/logistic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/probe/lbfgs.h"
#include "models/probe/objective.h"
#include "runtime/error.h"

namespace sonde {
namespace {

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Point {
  std::vector<double> theta, gradient;
  double value = 0, gradient_max = 0;
  Point(LogisticObjective& objective, std::vector<double> start)
      : theta(std::move(start)), gradient(theta.size()) {
    value = objective.evaluate(theta, gradient);
    gradient_max = objective.gradient_max(gradient);
  }
};

// Newton's method with backtracking. Past the tolerance it goes on while the gradient shrinks by half: a step
// or two that bring the minimum to rounding.
int newton(ProbeOps& ops, LogisticObjective& objective, Point& point, double tolerance) {
  const auto P = static_cast<std::int64_t>(objective.size());
  std::vector<double> h, step(point.theta.size());
  for (int iteration = 0; iteration < 200; ++iteration) {
    if (point.gradient_max == 0) return iteration;
    objective.hessian(h);  // of the last evaluated point, which is `point`
    double lift = 0;       // rows so far from the boundary that the intercept's curvature vanished
    std::vector<double> factor = h;
    while (!ops.cholesky(factor, P)) {
      lift = lift == 0 ? 1e-12 : 10 * lift;
      if (lift > 1e6) return iteration;
      factor = h;
      for (std::int64_t i = 0; i < P; ++i) factor[static_cast<std::size_t>(i * P + i)] += lift;
    }
    for (std::size_t i = 0; i < step.size(); ++i) step[i] = -point.gradient[i];
    ops.cholesky_solve(step, factor, P);
    const double slope = dot(step, point.gradient);
    const double rounding = 1e-14 * (1 + std::abs(point.value));
    bool moved = false;
    for (double length = 1; length > 1e-12 && !moved; length /= 2) {
      std::vector<double> trial(point.theta);
      for (std::size_t i = 0; i < trial.size(); ++i) trial[i] += length * step[i];
      Point next(objective, std::move(trial));
      const bool lower = next.value <= point.value + 1e-4 * length * slope;
      const bool flat = next.value <= point.value + rounding && next.gradient_max < point.gradient_max;
      if (!lower && !flat) continue;
      const bool small = point.gradient_max <= tolerance;
      if (small && !(next.gradient_max < point.gradient_max)) return iteration;
      const bool done = small && next.gradient_max > point.gradient_max / 2;
      point = std::move(next);
      if (done) return iteration + 1;
      moved = true;
    }
    if (!moved) return iteration;
  }
  return 200;
}

}  // namespace

Fit fit_logistic(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                 std::int64_t classes, const LogisticOptions& options) {
  sonde_check(static_cast<std::int64_t>(labels.size()) == train.x.n(), "{} labels, {} rows", labels.size(),
              train.x.n());
  LogisticObjective objective(ops, train, labels, classes, options.C);
  Point point(objective, std::vector<double>(objective.size()));
  const bool small = static_cast<std::int64_t>(objective.size()) <= kNewtonSize;
  const bool use_newton = options.solver == Solver::newton || (options.solver == Solver::automatic && small);
  int iterations = 0;
  if (use_newton) {
    iterations = newton(ops, objective, point, options.tolerance);
  } else {
    const LbfgsStop stop{options.max_iterations, [&](std::span<const double> g) {
                           return objective.gradient_max(g) <= options.tolerance;
                         }};
    iterations =
        lbfgs([&](std::span<const double> t, std::span<double> g) { return objective.evaluate(t, g); },
              point.theta, objective.diagonal(), stop);
    point = Point(objective, std::move(point.theta));
  }

  Fit fit;
  const auto C = static_cast<std::size_t>(objective.targets());
  const auto weights = static_cast<std::ptrdiff_t>(objective.size() - C);
  if (C > 1) {  // the objective does not see a constant in all b
    const double mean =
        std::accumulate(point.theta.begin() + weights, point.theta.end(), 0.0) / static_cast<double>(C);
    for (auto b = point.theta.begin() + weights; b != point.theta.end(); ++b) *b -= mean;
  }
  fit.w.assign(point.theta.begin(), point.theta.begin() + weights);
  fit.b.assign(point.theta.begin() + weights, point.theta.end());
  fit.objective = point.value;
  fit.gradient_max = point.gradient_max;
  fit.iterations = iterations;
  fit.converged = point.gradient_max <= options.tolerance;
  return fit;
}

}  // namespace sonde
