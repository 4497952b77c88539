#include "models/probe/shared_rows.h"

#include <algorithm>

namespace sonde {
namespace {

void clear(std::span<double> x) { std::fill(x.begin(), x.end(), 0.0); }

}  // namespace

void SharedRowsOps::join(std::span<double> sums) {
  ranks_.all_reduce(sums);
  ranks_.beat();
}

void SharedRowsOps::take_first(std::span<double> values, bool have) {
  const auto mine = static_cast<std::int64_t>(have ? ranks_.rank() : ranks_.size());
  if (ranks_.all_reduce(mine, Reduce::min) != ranks_.rank()) clear(values);
  ranks_.all_reduce(values);
}

void SharedRowsOps::join_parts(std::span<double> a, std::span<double> b, std::span<double> c) {
  joined_.clear();
  for (const std::span<double> part : {a, b, c}) joined_.insert(joined_.end(), part.begin(), part.end());
  join(joined_);
  auto from = joined_.begin();
  for (const std::span<double> part : {a, b, c}) {
    const auto end = from + static_cast<std::ptrdiff_t>(part.size());
    std::copy(from, end, part.begin());
    from = end;
  }
}

void SharedRowsOps::do_scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                              std::span<const double> b) {
  if (x.n() > 0) own_.scores(scores, x, w, b);
}

void SharedRowsOps::do_logistic(std::span<double> loss, std::span<double> gradient_w,
                                std::span<double> gradient_b, const FeatureRows& x, std::span<const double> w,
                                std::span<const double> b, std::span<const std::int8_t> signs,
                                std::span<double> curvature) {
  if (x.n() > 0)
    own_.logistic(loss, gradient_w, gradient_b, x, w, b, signs, curvature);
  else
    clear(loss), clear(gradient_w), clear(gradient_b);
  join_parts(gradient_w, gradient_b, loss);
}

double SharedRowsOps::do_softmax(std::span<double> gradient_w, std::span<double> gradient_b,
                                 const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                                 std::span<const std::int32_t> classes, std::span<double> probabilities) {
  double loss = 0;
  if (x.n() > 0)
    loss = own_.softmax(gradient_w, gradient_b, x, w, b, classes, probabilities);
  else
    clear(gradient_w), clear(gradient_b);
  join_parts(gradient_w, gradient_b, {&loss, 1});
  return loss;
}

void SharedRowsOps::do_weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) {
  x.n() > 0 ? own_.weighted_sums(out, x, t) : clear(out);
  join(out);
}

void SharedRowsOps::do_squares(std::span<double> out, const FeatureRows& x) {
  x.n() > 0 ? own_.squares(out, x) : clear(out);
  join(out);
}

void SharedRowsOps::do_gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) {
  x.n() > 0 ? own_.gram(gram, x, weights) : clear(gram);
  join(gram);
}

bool SharedRowsOps::do_cholesky(std::span<double> a, std::int64_t N, double relative_pivot) {
  return own_.cholesky(a, N, relative_pivot);
}

void SharedRowsOps::do_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) {
  own_.cholesky_solve(x, l, N);
}

}  // namespace sonde
