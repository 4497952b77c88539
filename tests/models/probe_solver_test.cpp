// Every solver against the float64 minima of the goldens: objective to 1e-10, coefficients to 1e-6.
#include <gtest/gtest.h>

#include <cmath>

#include "models/probe/closed_form.h"
#include "models/probe/logistic.h"
#include "models/probe/metrics.h"
#include "tests/models/probe_golden.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  EXPECT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

// One problem of the goldens: features, labels, the two sides.
struct Problem {
  const test::SolverGolden& golden;
  std::string name;
  std::vector<float> x;
  std::vector<std::int32_t> y;
  std::vector<std::int64_t> train, test;
  std::int64_t D;
  std::unique_ptr<ProbeOps> ops = make_cpu_probe_ops();

  Problem(const test::SolverGolden& g, std::string problem)
      : golden(g),
        name(std::move(problem)),
        x(g.get<float>(name + ".X")),
        y(g.get<std::int32_t>(name + ".y")) {
    const auto side = g.get<std::uint8_t>(name + ".train");
    for (std::size_t i = 0; i < side.size(); ++i)
      (side[i] ? train : test).push_back(static_cast<std::int64_t>(i));
    D = static_cast<std::int64_t>(x.size() / y.size());
  }
  std::vector<std::int32_t> labels(const std::vector<std::int64_t>& rows) const {
    std::vector<std::int32_t> out;
    for (const std::int64_t i : rows) out.push_back(y[static_cast<std::size_t>(i)]);
    return out;
  }
  Metrics measure(const LinearModel& model, ScoreKind kind = ScoreKind::log_odds) const {
    return metrics_of({model.C, model.scores(*ops, x.data(), D, test), labels(test), kind});
  }
  // A model of the goldens has the same coefficients, and its intercept within the same error.
  void expect_model(const LinearModel& model, const std::string& key, double limit = 1e-6) const {
    const auto coef = golden.get<double>(name + "." + key + ".coef"),
               b = golden.get<double>(name + "." + key + ".intercept");
    EXPECT_LT(distance(model.w, coef), limit) << key;
    for (std::size_t c = 0; c < b.size(); ++c)
      EXPECT_NEAR(model.b[c], b[c], limit * (1 + std::abs(b[c]))) << key;
  }
};

void check_logistic(const Problem& p, const std::string& side, double C, const std::string& key,
                    Solver solver) {
  const TrainingRows train(*p.ops, p.x.data(), p.D, p.train, side == "std");
  const std::string what = p.name + "." + side + "." + key;
  const Json& expected = p.golden.values["problems"][p.name][side][key];
  const Fit fit =
      fit_logistic(*p.ops, train, p.labels(p.train), 2, {.C = C, .solver = solver, .tolerance = 1e-8});
  const double objective = expected["objective"].get<double>();
  EXPECT_TRUE(fit.converged) << what << " gradient " << fit.gradient_max << " after " << fit.iterations;
  EXPECT_NEAR(fit.objective, objective, 1e-10 * objective) << what;
  const LinearModel model = train.model(fit.w, fit.b);
  p.expect_model(model, side + "." + key);
  const Metrics m = p.measure(model);
  EXPECT_EQ(m.correct, expected["test"]["correct"].get<std::int64_t>()) << what;
  EXPECT_NEAR(m.f1, expected["test"]["f1"].get<double>(), 1e-12) << what;
  EXPECT_NEAR(m.f1_label0, expected["test"]["f1_label0"].get<double>(), 1e-12) << what;
  EXPECT_NEAR(m.auc, expected["test"]["auc"].get<double>(), 1e-12) << what;
  EXPECT_NEAR(m.log_loss, expected["test"]["log_loss"].get<double>(), 1e-6) << what;
}

class ProbeSolver : public ::testing::TestWithParam<const char*> {};

TEST_P(ProbeSolver, LogisticByNewtonAndLbfgs) {
  SONDE_REQUIRE_SHARED("data/concept_depth");
  const test::SolverGolden golden(shared_path);
  const Problem p(golden, GetParam());
  for (const char* side : {"raw", "std"})
    for (const auto& [C, key] :
         {std::pair{0.01, "logistic_C0.01"}, {1.0, "logistic_C1"}, {100.0, "logistic_C100"}})
      for (const Solver solver : {Solver::newton, Solver::lbfgs}) {
        if (solver == Solver::lbfgs && C == 100.0) continue;  // thousands of passes
        check_logistic(p, side, C, key, solver);
      }
}

TEST_P(ProbeSolver, MeanAndScale) {
  SONDE_REQUIRE_SHARED("data/concept_depth");
  const test::SolverGolden golden(shared_path);
  const Problem p(golden, GetParam());
  const TrainingRows train(*p.ops, p.x.data(), p.D, p.train, true);
  EXPECT_LT(distance(train.mean, golden.get<double>(p.name + ".mean")), 1e-15);
  EXPECT_LT(distance(train.scale, golden.get<double>(p.name + ".scale")), 1e-14);
}

TEST_P(ProbeSolver, Ridge) {
  SONDE_REQUIRE_SHARED("data/concept_depth");
  const test::SolverGolden golden(shared_path);
  const Problem p(golden, GetParam());
  const auto length = golden.get<std::int32_t>(p.name + ".length");
  for (const char* side : {"raw", "std"}) {
    const TrainingRows train(*p.ops, p.x.data(), p.D, p.train, std::string(side) == "std");
    const Json& expected = golden.values["problems"][p.name][side];
    const Fit classifier = fit_ridge_classifier(*p.ops, train, p.labels(p.train), 2, 1.0);
    p.expect_model(train.model(classifier.w, classifier.b), std::string(side) + ".ridge_classifier");
    const double objective = expected["ridge_classifier"]["objective"].get<double>();
    EXPECT_NEAR(classifier.objective, objective, 1e-10 * objective);
    EXPECT_LT(classifier.gradient_max, 1e-6);
    EXPECT_EQ(p.measure(train.model(classifier.w, classifier.b), ScoreKind::margin).correct,
              expected["ridge_classifier"]["test_correct"].get<std::int64_t>());
    std::vector<double> t;
    for (const std::int64_t i : p.train) t.push_back(length[static_cast<std::size_t>(i)]);
    for (const auto& [alpha, key] : {std::pair{0.1, "ridge_0.1"}, {1.0, "ridge_1"}, {100.0, "ridge_100"}}) {
      const Fit fit = fit_ridge(*p.ops, train, t, 1, alpha);
      const double least = expected[key]["objective"].get<double>();
      EXPECT_NEAR(fit.objective, least, 1e-10 * least) << side << key;
      p.expect_model(train.model(fit.w, fit.b), std::string(side) + "." + key);
    }
  }
}

TEST_P(ProbeSolver, LdaAndMeanDifference) {
  SONDE_REQUIRE_SHARED("data/concept_depth");
  const test::SolverGolden golden(shared_path);
  const Problem p(golden, GetParam());
  for (const std::string side : {"raw", "std"}) {
    const TrainingRows train(*p.ops, p.x.data(), p.D, p.train, side == "std");
    const Json& expected = golden.values["problems"][p.name][side];
    for (const auto& [shrinkage, key] : {std::pair{0.0, "lda_none"}, {0.1, "lda_0.1"}}) {
      const Fit fit = fit_lda(*p.ops, train, p.labels(p.train), 2, shrinkage);
      const LinearModel model = train.model(fit.w, fit.b);
      const std::string name = p.name + "." + side + "." + key;
      EXPECT_LT(distance(model.w, golden.get<double>(name + ".coef_solve")), 1e-6) << name;
      EXPECT_NEAR(model.b[0], golden.get<double>(name + ".intercept_solve")[0],
                  1e-6 * (1 + std::abs(model.b[0])))
          << name;
      EXPECT_EQ(p.measure(model).correct, expected[key]["test_correct_solve"].get<std::int64_t>()) << name;
    }
    const Fit fit = fit_mean_difference(*p.ops, train, p.labels(p.train), 2);
    const LinearModel model = train.model(fit.w, fit.b);
    EXPECT_LT(distance(model.w, golden.get<double>(p.name + "." + side + ".mean_difference")), 1e-12);
    EXPECT_NEAR(-model.b[0], expected["mean_difference"]["midpoint"].get<double>(), 1e-10);
    const Metrics m = p.measure(model, ScoreKind::margin);
    EXPECT_EQ(m.correct, expected["mean_difference"]["test_correct"].get<std::int64_t>());
    EXPECT_NEAR(m.auc, expected["mean_difference"]["test_auc"].get<double>(), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ProbeSolver, ::testing::Values("cities12", "stsa20"));

TEST(ProbeSolver, FiveClasses) {
  SONDE_REQUIRE_SHARED("data/concept_depth");
  const test::SolverGolden golden(shared_path);
  const Problem p(golden, "five");
  const TrainingRows train(*p.ops, p.x.data(), p.D, p.train, false);
  const Json& expected = golden.values["problems"]["five"];
  for (const auto& [C, key] : {std::pair{0.01, "multinomial_C0.01"}, {1.0, "multinomial_C1"}})
    for (const Solver solver : {Solver::newton, Solver::lbfgs}) {
      const Fit fit =
          fit_logistic(*p.ops, train, p.labels(p.train), 5, {.C = C, .solver = solver, .tolerance = 1e-8});
      const double objective = expected[key]["objective"].get<double>();
      EXPECT_TRUE(fit.converged) << fit.gradient_max;
      EXPECT_NEAR(fit.objective, objective, 1e-10 * objective);
      const LinearModel model = train.model(fit.w, fit.b);
      // The golden's coef is the start of its [5, 65] matrix of weights and intercepts, in the matrix's own
      // order.
      std::vector<double> rows;
      for (std::size_t c = 0; c < 5; ++c) {
        rows.insert(rows.end(), model.w.begin() + static_cast<std::ptrdiff_t>(64 * c),
                    model.w.begin() + static_cast<std::ptrdiff_t>(64 * c + 64));
        rows.push_back(model.b[c]);
      }
      rows.resize(320);
      EXPECT_LT(distance(rows, golden.get<double>(std::string("five.") + key + ".coef")), 1e-6) << key;
      EXPECT_LT(distance(model.b, golden.get<double>(std::string("five.") + key + ".intercept_sklearn")),
                2e-5)
          << key;
      double total = 0;
      for (const double b : model.b) total += b;
      EXPECT_NEAR(total, 0, 1e-6);
      const Metrics m = p.measure(model);
      EXPECT_EQ(m.correct, expected[key]["test"]["correct"].get<std::int64_t>());
      EXPECT_NEAR(m.balanced_accuracy, expected[key]["test"]["balanced_accuracy"].get<double>(), 1e-12);
      EXPECT_NEAR(m.f1, expected[key]["test"]["f1_macro"].get<double>(), 1e-12);
      EXPECT_NEAR(m.f1_label0, expected[key]["test"]["f1_per_class"][0].get<double>(), 1e-12);
      EXPECT_NEAR(m.log_loss, expected[key]["test"]["log_loss"].get<double>(), 1e-7);
    }
  const Fit ridge = fit_ridge_classifier(*p.ops, train, p.labels(p.train), 5, 1.0);
  const LinearModel classifier = train.model(ridge.w, ridge.b);
  EXPECT_EQ(p.measure(classifier, ScoreKind::margin).correct, 360);
  const auto coef = golden.get<double>("five.ridge_classifier.coef");  // written column by column: [64, 5]
  std::vector<double> columns(320);
  for (std::size_t i = 0; i < 320; ++i) columns[i] = classifier.w[i % 5 * 64 + i / 5];
  EXPECT_LT(distance(columns, coef), 1e-10);

  // The covariance has rank 48 of 64: the solution of least norm, as scikit-learn's lsqr.
  const Fit lda = fit_lda(*p.ops, train, p.labels(p.train), 5, 0);
  EXPECT_EQ(p.measure(train.model(lda.w, lda.b)).correct,
            expected["lda_none"]["test_correct"].get<std::int64_t>());
}

TEST(ProbeSolver, NeverClaimsConvergenceItLacks) {
  const std::vector<float> x{-2, 1, 0.5f, 3, -1, 2, 1.5f, -0.5f};
  const std::vector<std::int64_t> rows{0, 1, 2, 3};
  const std::vector<std::int32_t> y{0, 1, 1, 0};
  const auto ops = make_cpu_probe_ops();
  const TrainingRows train(*ops, x.data(), 2, rows, false);
  const Fit cut = fit_logistic(*ops, train, y, 2, {.solver = Solver::lbfgs, .max_iterations = 1});
  EXPECT_FALSE(cut.converged);
  EXPECT_GT(cut.gradient_max, 1e-6);
  const Fit whole = fit_logistic(*ops, train, y, 2, {.solver = Solver::lbfgs});
  EXPECT_TRUE(whole.converged);
  EXPECT_LE(whole.gradient_max, 1e-6);
}

}  // namespace
}  // namespace sonde
