// The passes that probes are trained with: float32 features, float64 arithmetic, one read of the features per
// pass.
//
// Letters as in backend.h: D features, C targets; n the rows of a pass. Features are seen as x - shift, the
// difference taken in float64, so that centring costs no digits. A pass may leave out rows
// (FeatureRows::rows). Results never depend on the number of threads: rows are cut into fixed chunks, sums
// are joined in chunk order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sonde {

// n rows of a float32 matrix [.., D], the i-th at x + rows[i] * stride, each minus shift.
struct FeatureRows {
  const float* x = nullptr;
  std::int64_t stride = 0;  // floats from one row of x to the next
  std::int64_t D = 0;
  std::span<const std::int64_t> rows;  // [n]
  std::span<const double> shift;       // [D]

  std::int64_t n() const { return static_cast<std::int64_t>(rows.size()); }
  const float* row(std::int64_t i) const { return x + rows[static_cast<std::size_t>(i)] * stride; }
};

class ProbeOps {
 public:
  virtual ~ProbeOps() = default;
  virtual std::string path() const = 0;  // "avx2": decides the last bits

  // scores[i, c] = w_c . (x_i - shift) + b_c
  void scores(std::span<double> scores /*[n, C]*/, const FeatureRows& x, std::span<const double> w /*[C, D]*/,
              std::span<const double> b /*[C]*/);

  // C binary problems on the same rows. f = score, s = signs[i, c] in {+1, -1}, or 0 where a row is left out:
  // loss_c = sum_i log(1 + exp(-s f)); its gradients; curvature[i, c] = p (1 - p), unless that span is empty.
  void logistic(std::span<double> loss /*[C]*/, std::span<double> gradient_w /*[C, D]*/,
                std::span<double> gradient_b /*[C]*/, const FeatureRows& x,
                std::span<const double> w /*[C, D]*/, std::span<const double> b /*[C]*/,
                std::span<const std::int8_t> signs /*[n, C]*/,
                std::span<double> curvature /*[n, C] or empty*/ = {});

  // One problem of C classes: returns -sum_i log softmax(scores_i)[classes_i], and its gradients;
  // probabilities[i, c], unless that span is empty.
  double softmax(std::span<double> gradient_w /*[C, D]*/, std::span<double> gradient_b /*[C]*/,
                 const FeatureRows& x, std::span<const double> w /*[C, D]*/,
                 std::span<const double> b /*[C]*/, std::span<const std::int32_t> classes /*[n]*/,
                 std::span<double> probabilities /*[n, C] or empty*/ = {});

  // out_c = sum_i t[i, c] (x_i - shift)
  void weighted_sums(std::span<double> out /*[C, D]*/, const FeatureRows& x,
                     std::span<const double> t /*[n, C]*/);

  // out_j = sum_i (x_ij - shift_j)^2
  void squares(std::span<double> out /*[D]*/, const FeatureRows& x);

  // gram = sum_i weights_i (x_i - shift) (x_i - shift)', both triangles; empty weights mean 1.
  void gram(std::span<double> gram /*[D, D]*/, const FeatureRows& x,
            std::span<const double> weights /*[n] or empty*/);

  // a = L L': writes L over a's lower triangle (the upper one is left as it was). False, with a undefined,
  // when a pivot is not above `relative_pivot` times its diagonal entry: a is not safely positive definite.
  bool cholesky(std::span<double> a /*[N, N]*/, std::int64_t N, double relative_pivot = 0);
  // x <- (L L')^-1 x for each of the C right-hand sides.
  void cholesky_solve(std::span<double> x /*[C, N]*/, std::span<const double> l /*[N, N]*/, std::int64_t N);

  // Many passes will read these features until the hold is dropped, which is before this object is: a device
  // keeps a copy meanwhile, where it has the room for one.
  virtual std::shared_ptr<void> hold(std::span<const float> /*features*/) { return nullptr; }

  // Where processes share the rows of a pass, the sums above are over all of them. What a solver sums itself
  // it joins:
  virtual void join(std::span<double> /*sums*/) {}  // over all that share the rows
  // The values of the first that has any (`have`: this one does).
  virtual void take_first(std::span<double> /*values*/, bool /*have*/) {}

 protected:
  virtual void do_scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                         std::span<const double> b) = 0;
  virtual void do_logistic(std::span<double> loss, std::span<double> gradient_w, std::span<double> gradient_b,
                           const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                           std::span<const std::int8_t> signs, std::span<double> curvature) = 0;
  virtual double do_softmax(std::span<double> gradient_w, std::span<double> gradient_b, const FeatureRows& x,
                            std::span<const double> w, std::span<const double> b,
                            std::span<const std::int32_t> classes, std::span<double> probabilities) = 0;
  virtual void do_weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) = 0;
  virtual void do_squares(std::span<double> out, const FeatureRows& x) = 0;
  virtual void do_gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) = 0;
  virtual bool do_cholesky(std::span<double> a, std::int64_t N, double relative_pivot) = 0;
  virtual void do_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) = 0;
};

std::unique_ptr<ProbeOps> make_cpu_probe_ops();

}  // namespace sonde
