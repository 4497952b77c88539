#include "models/probe/objective.h"

#include <algorithm>
#include <cmath>

namespace sonde {
namespace {
std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
}  // namespace

LogisticObjective::LogisticObjective(ProbeOps& ops, const TrainingRows& train,
                                     std::span<const std::int32_t> labels, std::int64_t classes, double C)
    : ops_(ops), train_(train), D_(train.x.D), C_(classes == 2 ? 1 : classes), n_(train.x.n()), penalty_(C) {
  if (C_ > 1)
    labels_.assign(labels.begin(), labels.end());
  else
    for (const std::int32_t label : labels) signs_.push_back(label != 0 ? 1 : -1);
  curvature_.resize(at(n_ * C_));
}

double LogisticObjective::evaluate(std::span<const double> theta, std::span<double> gradient) {
  const std::size_t weights = at(C_ * D_);
  scaled_.assign(theta.begin(), theta.begin() + C_ * D_);
  for (std::size_t i = 0; i < weights; ++i) scaled_[i] /= train_.scale[i % at(D_)];
  const std::span<const double> b = theta.subspan(weights);
  const std::span<double> gw = gradient.first(weights), gb = gradient.subspan(weights);
  double loss = 0;
  if (C_ == 1)
    ops_.logistic({&loss, 1}, gw, gb, train_.x, scaled_, b, signs_, curvature_);
  else
    loss = ops_.softmax(gw, gb, train_.x, scaled_, b, labels_, curvature_);
  double norm = 0;
  for (std::size_t i = 0; i < weights; ++i) {
    gw[i] = penalty_ * gw[i] / train_.scale[i % at(D_)] + theta[i];
    norm += theta[i] * theta[i];
  }
  for (double& g : gb) g *= penalty_;
  return norm / 2 + penalty_ * loss;
}

// Adds C sum_i weights_i (z_i, 1) (z_i, 1)' to the rows and columns of targets `row` and `column`.
void LogisticObjective::add_block(std::vector<double>& h, std::int64_t row, std::int64_t column,
                                  std::span<const double> weights) {
  const std::int64_t P = C_ * (D_ + 1), r0 = row * D_, c0 = column * D_, rb = C_ * D_ + row,
                     cb = C_ * D_ + column;
  gram_.resize(at(D_ * D_));
  std::vector<double> border(at(D_));
  ops_.gram(gram_, train_.x, weights);
  ops_.weighted_sums(border, train_.x, weights);
  double total = 0;
  for (const double weight : weights) total += weight;
  ops_.join({&total, 1});
  const std::vector<double>& s = train_.scale;
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < D_; ++i)
    for (std::int64_t j = 0; j < D_; ++j)
      h[at((r0 + i) * P + c0 + j)] = penalty_ * gram_[at(i * D_ + j)] / (s[at(i)] * s[at(j)]);
  for (std::int64_t i = 0; i < D_; ++i) {
    const double edge = penalty_ * border[at(i)] / s[at(i)];
    h[at(cb * P + r0 + i)] = edge;  // biases come after all weights: below the diagonal
    h[at(rb * P + c0 + i)] = edge;
  }
  h[at(rb * P + cb)] = penalty_ * total;
}

void LogisticObjective::hessian(std::vector<double>& h) {
  const std::int64_t P = C_ * (D_ + 1);
  h.assign(at(P * P), 0.0);
  std::vector<double> weights(at(n_));
  for (std::int64_t k = 0; k < C_; ++k)
    for (std::int64_t l = 0; l <= k; ++l) {
      if (C_ == 1)
        weights = curvature_;
      else
        for (std::int64_t i = 0; i < n_; ++i)
          weights[at(i)] = curvature_[at(i * C_ + k)] * ((k == l ? 1.0 : 0.0) - curvature_[at(i * C_ + l)]);
      add_block(h, k, l, weights);
    }
  for (std::int64_t i = 0; i < P; ++i)  // the targets' blocks above the diagonal
    for (std::int64_t j = 0; j < i; ++j)
      h[at(j * P + i)] = h[at(i * P + j)] = h[at(std::max(i, j) * P + std::min(i, j))];
  for (std::int64_t i = 0; i < C_ * D_; ++i) h[at(i * P + i)] += 1;
  if (C_ > 1)
    for (std::int64_t k = C_ * D_; k < P; ++k)
      for (std::int64_t l = C_ * D_; l < P; ++l) h[at(k * P + l)] += 1;
}

std::vector<double> LogisticObjective::diagonal() const {
  std::vector<double> squares(at(D_)), out;
  ops_.squares(squares, train_.x);
  for (std::int64_t c = 0; c < C_; ++c)
    for (std::int64_t j = 0; j < D_; ++j)
      out.push_back(1 + penalty_ / 4 * squares[at(j)] / (train_.scale[at(j)] * train_.scale[at(j)]));
  out.insert(out.end(), at(C_), std::max(penalty_ / 4 * train_.n, 1e-300));
  return out;
}

double LogisticObjective::gradient_max(std::span<const double> gradient) const {
  double most = 0;
  for (std::int64_t c = 0; c < C_; ++c) {
    const double gb = gradient[at(C_ * D_ + c)];
    most = std::max(most, std::abs(gb));
    for (std::int64_t j = 0; j < D_; ++j) {
      const double shifted = train_.standardised ? 0.0 : train_.mean[at(j)] * gb;
      most = std::max(most, std::abs(gradient[at(c * D_ + j)] + shifted));
    }
  }
  return most;
}

}  // namespace sonde
