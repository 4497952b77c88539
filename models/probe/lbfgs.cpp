#include "models/probe/lbfgs.h"

#include <algorithm>
#include <cmath>
#include <deque>

namespace sonde {
namespace {

constexpr std::size_t kHistory = 20;
constexpr double kArmijo = 1e-4, kCurvature = 0.9;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// The objective along one direction: phi(t) = f(theta + t d).
struct Line {
  const Evaluate& evaluate;
  const std::vector<double>& origin;
  const std::vector<double>& direction;
  std::vector<double> theta, gradient;  // of the last evaluated t

  struct Sample {
    double t, value, slope;
  };
  Sample at(double t) {
    for (std::size_t i = 0; i < theta.size(); ++i) theta[i] = origin[i] + t * direction[i];
    const double value = evaluate(theta, gradient);
    return {t, value, dot(gradient, direction)};
  }
};

// Minimum of the cubic through two samples, kept off the ends of their interval.
double cubic_step(const Line::Sample& a, const Line::Sample& b) {
  const double d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t);
  const double d2 = std::copysign(std::sqrt(std::max(0.0, d1 * d1 - a.slope * b.slope)), b.t - a.t);
  const double t = b.t - (b.t - a.t) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
  const double low = std::min(a.t, b.t), high = std::max(a.t, b.t), margin = 0.1 * (high - low);
  return std::isfinite(t) ? std::clamp(t, low + margin, high - margin) : (low + high) / 2;
}

// Leaves line.theta and line.gradient at a point that lowers the value; false when there is none.
bool search(Line& line, double value, double slope, double first, double& found) {
  // Near the minimum differences of values are rounding; there a smaller slope is what counts (Hager and
  // Zhang 2005).
  const double rounding = 1e-15 * (1 + std::abs(value));
  const auto too_high = [&](const Line::Sample& s) {
    const bool armijo = s.value <= value + kArmijo * s.t * slope;
    const bool approximate = s.value <= value + rounding && s.slope <= (2 * kArmijo - 1) * slope;
    return !armijo && !approximate;
  };
  Line::Sample low{0, value, slope}, high = low;
  bool bracketed = false;
  double t = first;
  for (int i = 0; i < 40; ++i) {
    const Line::Sample s = line.at(t);
    if (too_high(s) || !std::isfinite(s.value) || (s.value >= low.value + rounding && low.t > 0)) {
      high = s;
      bracketed = true;
    } else {
      if (std::abs(s.slope) <= -kCurvature * slope) {
        found = s.value;
        return true;
      }
      if (bracketed ? s.slope * (high.t - low.t) >= 0 : s.slope >= 0) {
        high = low;
        bracketed = true;
      }
      low = s;
    }
    if (!bracketed)
      t *= 4;
    else
      t = std::isfinite(high.value) ? cubic_step(low, high) : (low.t + high.t) / 2;
    if (bracketed && std::abs(high.t - low.t) <= 1e-14 * std::max(std::abs(high.t), std::abs(low.t))) break;
  }
  if (low.t == 0) return false;
  found = line.at(low.t).value;
  return true;
}

}  // namespace

int lbfgs(const Evaluate& evaluate, std::vector<double>& theta, std::vector<double> diagonal,
          const LbfgsStop& stop) {
  struct Pair {
    std::vector<double> s, y;
    double rho;
  };
  std::deque<Pair> pairs;
  std::vector<double> gradient(theta.size()), direction(theta.size()), alpha;
  double value = evaluate(theta, gradient);
  for (int iteration = 0; iteration < stop.max_iterations; ++iteration) {
    if (stop.small_enough(gradient)) return iteration;
    direction = gradient;
    alpha.assign(pairs.size(), 0.0);
    for (std::size_t p = pairs.size(); p-- > 0;) {
      alpha[p] = pairs[p].rho * dot(pairs[p].s, direction);
      for (std::size_t i = 0; i < direction.size(); ++i) direction[i] -= alpha[p] * pairs[p].y[i];
    }
    double gamma = 1;  // the newest pair says how far the diagonal overestimates
    if (!pairs.empty()) {
      double weighted = 0;
      for (std::size_t i = 0; i < direction.size(); ++i)
        weighted += pairs.back().y[i] * pairs.back().y[i] / diagonal[i];
      gamma = 1 / (pairs.back().rho * weighted);
    }
    for (std::size_t i = 0; i < direction.size(); ++i) direction[i] *= gamma / diagonal[i];
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      const double beta = pairs[p].rho * dot(pairs[p].y, direction);
      for (std::size_t i = 0; i < direction.size(); ++i) direction[i] += (alpha[p] - beta) * pairs[p].s[i];
    }
    for (double& d : direction) d = -d;
    const double slope = dot(direction, gradient);
    Line line{evaluate, theta, direction, std::vector<double>(theta.size()),
              std::vector<double>(theta.size())};
    double found = 0;
    if (!(slope < 0) || !search(line, value, slope, 1.0, found)) {
      if (pairs.empty()) return iteration;  // even the scaled steepest descent finds nothing lower
      pairs.clear();
      continue;
    }
    Pair pair{std::vector<double>(theta.size()), std::vector<double>(theta.size()), 0};
    for (std::size_t i = 0; i < theta.size(); ++i) {
      pair.s[i] = line.theta[i] - theta[i];
      pair.y[i] = line.gradient[i] - gradient[i];
    }
    const double curvature = dot(pair.s, pair.y);
    theta.swap(line.theta);
    gradient.swap(line.gradient);
    value = found;
    if (curvature <= 0) continue;
    pair.rho = 1 / curvature;
    pairs.push_back(std::move(pair));
    if (pairs.size() > kHistory) pairs.pop_front();
  }
  return stop.max_iterations;
}

}  // namespace sonde
