#include "models/probe/closed_form.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace sonde {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Z'Z of the centred and scaled rows, [D, D].
std::vector<double> scaled_gram(ProbeOps& ops, const TrainingRows& train) {
  const std::int64_t D = train.x.D;
  std::vector<double> g(at(D * D));
  ops.gram(g, train.x, {});
  for (std::int64_t i = 0; i < D; ++i)
    for (std::int64_t j = 0; j < D; ++j) g[at(i * D + j)] /= train.scale[at(i)] * train.scale[at(j)];
  return g;
}

// sum_i t[i, c] z_i, [C, D].
std::vector<double> scaled_sums(ProbeOps& ops, const TrainingRows& train, std::span<const double> t,
                                std::int64_t C) {
  const std::int64_t D = train.x.D;
  std::vector<double> sums(at(C * D));
  ops.weighted_sums(sums, train.x, t);
  for (std::int64_t i = 0; i < C * D; ++i) sums[at(i)] /= train.scale[at(i % D)];
  return sums;
}

struct ClassMeans {
  std::vector<double> mean;   // [classes, D], of centred and scaled rows
  std::vector<double> count;  // [classes]
};
ClassMeans class_means(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                       std::int64_t classes) {
  const std::int64_t n = train.x.n(), D = train.x.D;
  std::vector<double> member(at(n * classes));
  ClassMeans out{{}, std::vector<double>(at(classes))};
  for (std::int64_t i = 0; i < n; ++i) {
    member[at(i * classes + labels[at(i)])] = 1;
    out.count[at(labels[at(i)])] += 1;
  }
  ops.join(out.count);
  out.mean = scaled_sums(ops, train, member, classes);
  for (std::int64_t i = 0; i < classes * D; ++i) out.mean[at(i)] /= out.count[at(i / D)];
  return out;
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// w_c <- sigma^-1 w_c. A singular sigma (constant or dependent features, fewer rows than features) gives
// nearly the solution of least norm: with e = 1e-6 of the mean variance, directions of variance v get v / (v
// + e)^2, so that directions without variance drop out; two rounds on the remainder bring the others to 1/v.
void solve_covariance(ProbeOps& ops, const std::vector<double>& sigma, std::vector<double>& w,
                      std::int64_t C) {
  const auto D = static_cast<std::int64_t>(w.size()) / C;
  std::vector<double> factor = sigma;
  if (ops.cholesky(factor, D, 1e-13)) return ops.cholesky_solve(w, factor, D);
  double mean = 0;
  for (std::int64_t i = 0; i < D; ++i) mean += sigma[at(i * D + i)] / static_cast<double>(D);
  factor = sigma;
  for (std::int64_t i = 0; i < D; ++i) factor[at(i * D + i)] += 1e-6 * mean;
  if (!(mean > 0) || !ops.cholesky(factor, D)) {  // no variance within classes at all
    std::fill(w.begin(), w.end(), 0.0);
    return;
  }
  const auto times_sigma = [&](const std::vector<double>& v) {
    std::vector<double> out(v.size());
    for (std::int64_t c = 0; c < C; ++c)
      for (std::int64_t i = 0; i < D; ++i)
        out[at(c * D + i)] =
            dot(std::span(sigma).subspan(at(i * D), at(D)), std::span(v).subspan(at(c * D), at(D)));
    return out;
  };
  const std::vector<double> target = std::move(w);
  w.assign(target.size(), 0.0);
  for (int round = 0; round < 3; ++round) {
    std::vector<double> step = times_sigma(w);
    for (std::size_t i = 0; i < step.size(); ++i) step[i] = target[i] - step[i];
    ops.cholesky_solve(step, factor, D);
    step = times_sigma(step);
    ops.cholesky_solve(step, factor, D);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] += step[i];
  }
}

}  // namespace

Fit fit_ridge(ProbeOps& ops, const TrainingRows& train, std::span<const double> t, std::int64_t C,
              double alpha) {
  const std::int64_t n = train.x.n(), D = train.x.D;
  std::vector<double> centred(t.begin(), t.end()), mean(at(C));
  for (std::int64_t i = 0; i < n * C; ++i) mean[at(i % C)] += t[at(i)] / train.n;
  ops.join(mean);
  for (std::int64_t i = 0; i < n * C; ++i) centred[at(i)] -= mean[at(i % C)];
  std::vector<double> a = scaled_gram(ops, train);
  for (std::int64_t j = 0; j < D; ++j) a[at(j * D + j)] += alpha;
  Fit fit;
  fit.w = scaled_sums(ops, train, centred, C);
  fit.b = mean;
  if (!ops.cholesky(a, D, 1e-14))
    fail_hint("raise --alpha", "ridge with alpha {}: the features' Gram matrix is singular", alpha);
  ops.cholesky_solve(fit.w, a, D);

  // What is left: residuals, objective, gradient 2 (alpha w - sum_i r_i z_i).
  std::vector<double> residual(at(n * C)), v(fit.w);
  for (std::int64_t i = 0; i < C * D; ++i) v[at(i)] /= train.scale[at(i % D)];
  ops.scores(residual, train.x, v, fit.b);
  for (std::int64_t i = 0; i < n * C; ++i) residual[at(i)] = t[at(i)] - residual[at(i)];
  double squares = dot(residual, residual);
  ops.join({&squares, 1});
  fit.objective = squares + alpha * dot(fit.w, fit.w);
  const std::vector<double> pull = scaled_sums(ops, train, residual, C);
  for (std::int64_t i = 0; i < C * D; ++i)
    fit.gradient_max = std::max(fit.gradient_max, 2 * std::abs(alpha * fit.w[at(i)] - pull[at(i)]));
  fit.converged = std::isfinite(fit.objective);
  return fit;
}

Fit fit_ridge_classifier(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                         std::int64_t classes, double alpha) {
  const std::int64_t C = classes == 2 ? 1 : classes;
  std::vector<double> t;
  for (const std::int32_t label : labels)
    for (std::int64_t c = 0; c < C; ++c) t.push_back((C == 1 ? label == 1 : label == c) ? 1.0 : -1.0);
  return fit_ridge(ops, train, t, C, alpha);
}

Fit fit_lda(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
            std::int64_t classes, double shrinkage) {
  const std::int64_t D = train.x.D, C = classes == 2 ? 1 : classes;
  const double n = train.n;
  const ClassMeans means = class_means(ops, train, labels, classes);
  std::vector<double> sigma =
      scaled_gram(ops, train);  // around the common mean: take the classes' own means out
  for (std::int64_t k = 0; k < classes; ++k) {
    const double* mu = means.mean.data() + k * D;
    for (std::int64_t i = 0; i < D; ++i)
      for (std::int64_t j = 0; j < D; ++j) sigma[at(i * D + j)] -= means.count[at(k)] * mu[i] * mu[j];
  }
  double trace = 0;
  for (std::int64_t i = 0; i < D; ++i) trace += sigma[at(i * D + i)] / n;
  for (double& s : sigma) s *= (1 - shrinkage) / n;
  for (std::int64_t i = 0; i < D; ++i) sigma[at(i * D + i)] += shrinkage * trace / static_cast<double>(D);

  Fit fit;
  fit.w.resize(at(C * D));
  for (std::int64_t j = 0; j < C * D; ++j)
    fit.w[at(j)] = C == 1 ? means.mean[at(D + j)] - means.mean[at(j)] : means.mean[at(j)];
  solve_covariance(ops, sigma, fit.w, C);
  const auto half_square = [&](std::int64_t k, std::span<const double> w) {
    return dot(std::span(means.mean).subspan(at(k * D), at(D)), w) / 2;
  };
  if (C == 1) {
    // mu_1 S mu_1 - mu_0 S mu_0 = (mu_1 + mu_0) . w
    fit.b = {std::log(means.count[1] / means.count[0]) - half_square(0, fit.w) - half_square(1, fit.w)};
  } else {
    for (std::int64_t k = 0; k < C; ++k)
      fit.b.push_back(std::log(means.count[at(k)] / n) -
                      half_square(k, std::span(fit.w).subspan(at(k * D), at(D))));
  }
  fit.objective = fit.gradient_max = std::nan("");
  fit.converged = true;
  return fit;
}

Fit fit_mean_difference(ProbeOps& ops, const TrainingRows& train, std::span<const std::int32_t> labels,
                        std::int64_t classes) {
  const std::int64_t D = train.x.D, C = classes == 2 ? 1 : classes;
  const double n = train.n;
  const ClassMeans means = class_means(ops, train, labels, classes);
  Fit fit;
  for (std::int64_t c = 0; c < C; ++c) {
    const std::int64_t k = C == 1 ? 1 : c;
    const double inside = means.count[at(k)];
    double middle = 0;
    for (std::int64_t j = 0; j < D; ++j) {
      const double mine = means.mean[at(k * D + j)];
      const double rest = C == 1 ? means.mean[at(j)] : -mine * inside / (n - inside);  // the common mean is 0
      fit.w.push_back(mine - rest);
      middle += (mine - rest) * (mine + rest) / 2;
    }
    fit.b.push_back(-middle);
  }
  fit.objective = fit.gradient_max = std::nan("");
  fit.converged = true;
  return fit;
}

}  // namespace sonde
