// Limited-memory BFGS (Nocedal and Wright, algorithm 7.5) with a strong-Wolfe line search (3.5 and 3.6) and a
// diagonal for the initial inverse Hessian.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace sonde {

// Value at theta, gradient written.
using Evaluate = std::function<double(std::span<const double> theta, std::span<double> gradient)>;

struct LbfgsStop {
  int max_iterations = 10000;
  std::function<bool(std::span<const double> gradient)> small_enough;
};

// Moves theta to a minimum; returns the iterations done. It stops when small_enough says so, when no step
// lowers the value any more (rounding), or at max_iterations: the caller looks at the gradient.
int lbfgs(const Evaluate& evaluate, std::vector<double>& theta, std::vector<double> diagonal,
          const LbfgsStop& stop);

}  // namespace sonde
