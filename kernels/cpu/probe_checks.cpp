// The shapes of every probe pass, checked once for all backends.
#include "kernels/probe_ops.h"
#include "runtime/error.h"

namespace sonde {
namespace {

void check_rows(const FeatureRows& x) {
  sonde_check(x.D > 0 && x.stride >= x.D, "D is {}, stride {}", x.D, x.stride);
  sonde_check(static_cast<std::int64_t>(x.shift.size()) == x.D, "shift has {} values, D is {}",
              x.shift.size(), x.D);
  sonde_check(x.x != nullptr || x.rows.empty(), "no features");
}

void check_size(const char* what, std::size_t found, std::int64_t expected) {
  sonde_check(static_cast<std::int64_t>(found) == expected, "{} has {} values, expected {}", what, found,
              expected);
}

std::int64_t check_targets(const FeatureRows& x, std::span<const double> w, std::span<const double> b) {
  check_rows(x);
  const auto C = static_cast<std::int64_t>(b.size());
  sonde_check(C > 0, "no targets");
  check_size("w", w.size(), C * x.D);
  return C;
}

}  // namespace

void ProbeOps::scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                      std::span<const double> b) {
  const std::int64_t C = check_targets(x, w, b);
  check_size("scores", scores.size(), x.n() * C);
  do_scores(scores, x, w, b);
}

void ProbeOps::logistic(std::span<double> loss, std::span<double> gradient_w, std::span<double> gradient_b,
                        const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                        std::span<const std::int8_t> signs, std::span<double> curvature) {
  const std::int64_t C = check_targets(x, w, b);
  check_size("loss", loss.size(), C);
  check_size("gradient_w", gradient_w.size(), C * x.D);
  check_size("gradient_b", gradient_b.size(), C);
  check_size("signs", signs.size(), x.n() * C);
  if (!curvature.empty()) check_size("curvature", curvature.size(), x.n() * C);
  do_logistic(loss, gradient_w, gradient_b, x, w, b, signs, curvature);
}

double ProbeOps::softmax(std::span<double> gradient_w, std::span<double> gradient_b, const FeatureRows& x,
                         std::span<const double> w, std::span<const double> b,
                         std::span<const std::int32_t> classes, std::span<double> probabilities) {
  const std::int64_t C = check_targets(x, w, b);
  check_size("gradient_w", gradient_w.size(), C * x.D);
  check_size("gradient_b", gradient_b.size(), C);
  check_size("classes", classes.size(), x.n());
  for (const std::int32_t c : classes) sonde_check(c >= 0 && c < C, "class {} of {}", c, C);
  if (!probabilities.empty()) check_size("probabilities", probabilities.size(), x.n() * C);
  return do_softmax(gradient_w, gradient_b, x, w, b, classes, probabilities);
}

void ProbeOps::weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) {
  check_rows(x);
  const auto C = static_cast<std::int64_t>(out.size()) / x.D;
  check_size("out", out.size(), C * x.D);
  check_size("t", t.size(), x.n() * C);
  do_weighted_sums(out, x, t);
}

void ProbeOps::squares(std::span<double> out, const FeatureRows& x) {
  check_rows(x);
  check_size("out", out.size(), x.D);
  do_squares(out, x);
}

void ProbeOps::gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) {
  check_rows(x);
  check_size("gram", gram.size(), x.D * x.D);
  if (!weights.empty()) check_size("weights", weights.size(), x.n());
  do_gram(gram, x, weights);
}

bool ProbeOps::cholesky(std::span<double> a, std::int64_t N, double relative_pivot) {
  check_size("a", a.size(), N * N);
  return do_cholesky(a, N, relative_pivot);
}

void ProbeOps::cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) {
  check_size("l", l.size(), N * N);
  sonde_check(N > 0 && static_cast<std::int64_t>(x.size()) % N == 0, "x has {} values, N is {}", x.size(), N);
  do_cholesky_solve(x, l, N);
}

}  // namespace sonde
