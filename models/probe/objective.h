// The logistic objective as a function of one parameter vector theta = [w (C x D), b (C)], on centred and
// scaled rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/probe/linear_model.h"

namespace sonde {

class LogisticObjective {
 public:
  LogisticObjective(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                    std::int64_t classes, double C);

  std::size_t size() const { return static_cast<std::size_t>(C_ * (D_ + 1)); }
  std::int64_t targets() const { return C_; }
  std::int64_t width() const { return D_; }
  // Value and gradient at theta; keeps what hessian() needs.
  double evaluate(std::span<const double> theta, std::span<double> gradient);
  // At the last evaluated theta: [size, size], both triangles. With several classes the direction that adds a
  // constant to all b, in which the objective is flat, gets curvature 1.
  void hessian(std::vector<double>& h);
  // An upper estimate of the Hessian's diagonal, for any theta.
  std::vector<double> diagonal() const;
  // Largest entry of the gradient in the coordinates of the features as the user gave them: raw features are
  // not centred.
  double gradient_max(std::span<const double> gradient) const;

 private:
  void add_block(std::vector<double>& h, std::int64_t row, std::int64_t column,
                 std::span<const double> weights);

  ProbeOps& ops_;
  const TrainingRows& train_;
  std::int64_t D_, C_, n_;
  double penalty_;                          // the C of the objective
  std::vector<std::int8_t> signs_;          // [n], two classes
  std::vector<std::int32_t> labels_;        // [n], several
  std::vector<double> scaled_, curvature_;  // w / scale; p (1-p) [n] or probabilities [n, C]
  std::vector<double> gram_;
};

}  // namespace sonde
