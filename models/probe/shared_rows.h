// Probe passes whose rows are shared out over ranks: each sums its own, all get the sum over all. Sums run in
// the order of the ranks, so every rank takes the same steps.
#pragma once

#include "distributed/communicator.h"
#include "kernels/probe_ops.h"

namespace sonde {

class SharedRowsOps : public ProbeOps {
 public:
  SharedRowsOps(ProbeOps& own, Communicator& ranks) : own_(own), ranks_(ranks) {}
  std::string path() const override { return own_.path(); }
  std::shared_ptr<void> hold(std::span<const float> features) override { return own_.hold(features); }
  void join(std::span<double> sums) override;
  void take_first(std::span<double> values, bool have) override;

 private:
  // scores and curvature stay with the rows; matrices are everybody's.
  void do_scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                 std::span<const double> b) override;
  void do_logistic(std::span<double> loss, std::span<double> gradient_w, std::span<double> gradient_b,
                   const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                   std::span<const std::int8_t> signs, std::span<double> curvature) override;
  double do_softmax(std::span<double> gradient_w, std::span<double> gradient_b, const FeatureRows& x,
                    std::span<const double> w, std::span<const double> b,
                    std::span<const std::int32_t> classes, std::span<double> probabilities) override;
  void do_weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) override;
  void do_squares(std::span<double> out, const FeatureRows& x) override;
  void do_gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) override;
  bool do_cholesky(std::span<double> a, std::int64_t N, double relative_pivot) override;
  void do_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) override;

  // Gradients and loss in one call.
  void join_parts(std::span<double> a, std::span<double> b, std::span<double> c);

  ProbeOps& own_;
  Communicator& ranks_;
  std::vector<double> joined_;
};

}  // namespace sonde
