// Every probe pass against plain loops in long double, on awkward sizes, on every path this CPU has, and with
// equal bits for any number of threads.
#include "kernels/probe_ops.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <tuple>

#include "kernels/devices.h"
#include "runtime/cpu.h"

namespace sonde {
namespace {

using Real = long double;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// |a - b| over |b|, as vectors.
template <class A, class B>
double distance(const A& a, const B& b) {
  Real difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (Real(a[i]) - Real(b[i])) * (Real(a[i]) - Real(b[i]));
    norm += Real(b[i]) * Real(b[i]);
  }
  return static_cast<double>(norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference));
}

// Rows with a common part much larger than their differences, as hidden states have; every third row is left
// out.
struct Problem {
  std::int64_t n, D, C;
  std::vector<float> x;
  std::vector<std::int64_t> rows;
  std::vector<double> shift, w, b, t, weights;
  std::vector<std::int8_t> signs;
  std::vector<std::int32_t> classes;

  Problem(std::int64_t kept, std::int64_t width, std::int64_t targets) : n(kept), D(width), C(targets) {
    std::mt19937_64 random(static_cast<std::uint64_t>(n * 1000 + D));
    std::normal_distribution<double> normal;
    std::vector<double> common(at(D));
    for (double& v : common) v = 30 * normal(random);
    x.resize(at(2 * n * D));
    for (std::int64_t i = 0; i < 2 * n; ++i)
      for (std::int64_t j = 0; j < D; ++j)
        x[at(i * D + j)] = static_cast<float>(common[at(j)] + normal(random));
    for (std::int64_t i = 0; i < n; ++i) rows.push_back(i + i / 2);
    for (std::int64_t j = 0; j < D; ++j) shift.push_back(common[at(j)] + 0.1 * normal(random));
    for (std::int64_t i = 0; i < C * D; ++i) w.push_back(normal(random));
    for (std::int64_t i = 0; i < C; ++i) b.push_back(normal(random));
    for (std::int64_t i = 0; i < n * C; ++i) {
      t.push_back(normal(random));
      signs.push_back(static_cast<std::int8_t>(static_cast<int>(random() % 3) - 1));
    }
    for (std::int64_t i = 0; i < n; ++i) {
      weights.push_back(std::abs(normal(random)));
      classes.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(C)));
    }
  }
  FeatureRows features() const { return {x.data(), D, D, rows, shift}; }
  Real centred(std::int64_t i, std::int64_t j) const {
    return Real(x[at(rows[at(i)] * D + j)]) - Real(shift[at(j)]);
  }
  Real score(std::int64_t i, std::int64_t c) const {
    Real sum = b[at(c)];
    for (std::int64_t j = 0; j < D; ++j) sum += centred(i, j) * w[at(c * D + j)];
    return sum;
  }
};

class ProbeOpsTest : public ::testing::TestWithParam<std::tuple<const char*, int>> {
 protected:
  void SetUp() override {
    before_ = std::getenv("SONDE_CPU_PATH") ? std::getenv("SONDE_CPU_PATH") : "";
    unsetenv("SONDE_CPU_PATH");
    const std::string path = std::get<0>(GetParam());
    if (path == "emulated" || path == "cuda") {
      if (path == "cuda" && cuda_gpus().empty()) GTEST_SKIP() << "no GPU: " << why_no_gpu();
      ops_ = make_probe_ops(path);
      return;
    }
    if (parse_cpu_path(path) > best_cpu_path()) GTEST_SKIP() << "this CPU has no " << path;
    setenv("SONDE_CPU_PATH", path.c_str(), 1);
    threads_ = omp_get_max_threads();
    omp_set_num_threads(std::get<1>(GetParam()));
    ops_ = make_cpu_probe_ops();
    ASSERT_EQ(ops_->path(), path);
  }
  void TearDown() override {
    if (threads_ > 0) omp_set_num_threads(threads_);
    if (before_.empty())
      unsetenv("SONDE_CPU_PATH");
    else
      setenv("SONDE_CPU_PATH", before_.c_str(), 1);
  }
  std::unique_ptr<ProbeOps> ops_;
  std::string before_;
  int threads_ = 0;
};

const std::int64_t kSizes[] = {1, 7, 33, 257};

TEST_P(ProbeOpsTest, LogisticAndScores) {
  for (const std::int64_t n : kSizes)
    for (const std::int64_t D : kSizes) {
      const std::int64_t C = D == 7 ? 3 : 1;
      const Problem p(n, D, C);
      std::vector<Real> loss(at(C)), gw(at(C * D)), gb(at(C)), f(at(n * C)), curve(at(n * C));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t c = 0; c < C; ++c) {
          f[at(i * C + c)] = p.score(i, c);
          const int s = p.signs[at(i * C + c)];
          if (s == 0) continue;
          const Real probability = 1 / (1 + std::exp(-f[at(i * C + c)]));
          const Real slope = probability - (s > 0 ? 1 : 0);
          loss[at(c)] += std::log1p(std::exp(-s * f[at(i * C + c)]));
          gb[at(c)] += slope;
          curve[at(i * C + c)] = probability * (1 - probability);
          for (std::int64_t j = 0; j < D; ++j) gw[at(c * D + j)] += slope * p.centred(i, j);
        }
      std::vector<double> l(at(C)), w(at(C * D)), b(at(C)), scores(at(n * C)), curvature(at(n * C), -1);
      ops_->logistic(l, w, b, p.features(), p.w, p.b, p.signs, curvature);
      ops_->scores(scores, p.features(), p.w, p.b);
      EXPECT_LT(distance(l, loss), 1e-14) << n << " x " << D;
      EXPECT_LT(distance(w, gw), 1e-13) << n << " x " << D;
      EXPECT_LT(distance(b, gb), 1e-13) << n << " x " << D;
      EXPECT_LT(distance(scores, f), 1e-14) << n << " x " << D;
      EXPECT_LT(distance(curvature, curve), 1e-12) << n << " x " << D;
    }
}

TEST_P(ProbeOpsTest, LogisticFarFromZeroNeitherOverflowsNorLosesTheLoss) {
  Problem p(7, 1, 1);
  std::fill(p.signs.begin(), p.signs.end(), std::int8_t{1});
  for (const double far : {-1000.0, 1000.0}) {
    std::vector<double> l(1), gw(1), gb(1);
    ops_->logistic(l, gw, gb, p.features(), std::vector<double>{0.0}, std::vector<double>{far}, p.signs);
    EXPECT_DOUBLE_EQ(l[0], far < 0 ? 7000.0 : 0.0);
    EXPECT_DOUBLE_EQ(gb[0], far < 0 ? -7.0 : 0.0);
  }
}

TEST_P(ProbeOpsTest, Softmax) {
  for (const std::int64_t n : kSizes)
    for (const std::int64_t D : kSizes) {
      const std::int64_t C = 5;
      const Problem p(n, D, C);
      Real loss = 0;
      std::vector<Real> gw(at(C * D)), gb(at(C)), share(at(n * C));
      for (std::int64_t i = 0; i < n; ++i) {
        Real total = 0, top = -1e30L;
        for (std::int64_t c = 0; c < C; ++c) top = std::max(top, p.score(i, c));
        for (std::int64_t c = 0; c < C; ++c) total += std::exp(p.score(i, c) - top);
        loss += std::log(total) + top - p.score(i, p.classes[at(i)]);
        for (std::int64_t c = 0; c < C; ++c) {
          share[at(i * C + c)] = std::exp(p.score(i, c) - top) / total;
          const Real slope = share[at(i * C + c)] - (p.classes[at(i)] == c);
          gb[at(c)] += slope;
          for (std::int64_t j = 0; j < D; ++j) gw[at(c * D + j)] += slope * p.centred(i, j);
        }
      }
      std::vector<double> w(at(C * D)), b(at(C)), probabilities(at(n * C));
      const double l = ops_->softmax(w, b, p.features(), p.w, p.b, p.classes, probabilities);
      EXPECT_LT(std::abs(l - static_cast<double>(loss)), 1e-12 * (1 + static_cast<double>(loss)));
      EXPECT_LT(distance(w, gw), 1e-12) << n << " x " << D;
      EXPECT_LT(distance(b, gb), 1e-12) << n << " x " << D;
      EXPECT_LT(distance(probabilities, share), 1e-12) << n << " x " << D;
    }
}

TEST_P(ProbeOpsTest, MomentsAndGram) {
  for (const std::int64_t n : kSizes)
    for (const std::int64_t D : {1, 7, 33, 130}) {
      const std::int64_t C = 2;
      const Problem p(n, D, C);
      std::vector<Real> sums(at(C * D)), squares(at(D)), gram(at(D * D));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < D; ++j) {
          for (std::int64_t c = 0; c < C; ++c) sums[at(c * D + j)] += p.t[at(i * C + c)] * p.centred(i, j);
          squares[at(j)] += p.centred(i, j) * p.centred(i, j);
          for (std::int64_t k = 0; k < D; ++k)
            gram[at(j * D + k)] += p.weights[at(i)] * p.centred(i, j) * p.centred(i, k);
        }
      std::vector<double> s(at(C * D)), q(at(D)), g(at(D * D));
      ops_->weighted_sums(s, p.features(), p.t);
      ops_->squares(q, p.features());
      ops_->gram(g, p.features(), p.weights);
      EXPECT_LT(distance(s, sums), 1e-13) << n << " x " << D;
      EXPECT_LT(distance(q, squares), 1e-14) << n << " x " << D;
      EXPECT_LT(distance(g, gram), 1e-14) << n << " x " << D;
    }
}

TEST_P(ProbeOpsTest, CholeskySolvesAndKeepsTheUpperTriangle) {
  for (const std::int64_t N : {1, 7, 33, 64, 65, 257}) {
    const Problem p(2 * N + 3, N, 2);
    std::vector<double> a(at(N * N)), x;
    ops_->gram(a, p.features(), p.weights);
    const std::vector<double> before = a;
    for (std::int64_t i = 0; i < 2 * N; ++i) x.push_back(std::cos(static_cast<double>(i)));
    std::vector<double> rhs(at(2 * N));
    for (std::int64_t c = 0; c < 2; ++c)
      for (std::int64_t i = 0; i < N; ++i)
        for (std::int64_t j = 0; j < N; ++j) rhs[at(c * N + i)] += a[at(i * N + j)] * x[at(c * N + j)];
    ASSERT_TRUE(ops_->cholesky(a, N));
    std::vector<Real> product(at(N * N)), lower(at(N * N));
    for (std::int64_t i = 0; i < N; ++i)
      for (std::int64_t j = 0; j < N; ++j) {
        if (j > i) {
          EXPECT_EQ(a[at(i * N + j)], before[at(i * N + j)]);
          continue;
        }
        lower[at(i * N + j)] = before[at(i * N + j)];
        for (std::int64_t k = 0; k <= j; ++k)
          product[at(i * N + j)] += Real(a[at(i * N + k)]) * a[at(j * N + k)];
      }
    EXPECT_LT(distance(product, lower), 1e-14) << N;
    ops_->cholesky_solve(rhs, a, N);
    EXPECT_LT(distance(rhs, x), 1e-9) << N;
  }
}

TEST_P(ProbeOpsTest, CholeskyRefusesWhatIsNotPositiveDefinite) {
  std::vector<double> indefinite{1, 2, 2, 1}, nan{1, 0, 0, std::nan("")};
  EXPECT_FALSE(ops_->cholesky(indefinite, 2));
  EXPECT_FALSE(ops_->cholesky(nan, 2));
  const Problem p(20, 70, 1);  // rank 20 of 70
  std::vector<double> singular(70 * 70);
  ops_->gram(singular, p.features(), {});
  EXPECT_FALSE(ops_->cholesky(singular, 70, 1e-12));
}

INSTANTIATE_TEST_SUITE_P(Paths, ProbeOpsTest,
                         ::testing::Combine(::testing::Values("generic", "avx2", "avx512", "emulated",
                                                              "cuda"),
                                            ::testing::Values(1, 3)),
                         [](const auto& i) {
                           return std::string(std::get<0>(i.param)) + "_" +
                                  std::to_string(std::get<1>(i.param));
                         });

// More rows than a slab of a device has: held there, or copied in every pass, or no longer held.
TEST(ProbeOps, SameBitsHeldAndStreamedOn_emulated) {
  const std::int64_t D = 8, C = 3;
  const Problem p(66001, D, C);
  std::vector<double> first;
  for (const bool holds : {false, true}) {
    const auto ops = make_probe_ops("emulated");
    std::vector<double> l(at(C)), gw(at(C * D)), gb(at(C)), sums(at(C * D)), squares(at(D)), gram(at(D * D)),
        scores(at(p.n * C)), curvature(at(p.n * C));
    auto held = holds ? ops->hold(p.x) : nullptr;
    EXPECT_EQ(held != nullptr, holds);
    ops->logistic(l, gw, gb, p.features(), p.w, p.b, p.signs, curvature);
    ops->weighted_sums(sums, p.features(), p.t);
    ops->gram(gram, p.features(), p.weights);
    held.reset();
    ops->scores(scores, p.features(), p.w, p.b);
    ops->squares(squares, p.features());
    std::vector<double> all;
    for (const auto* part : {&l, &gw, &gb, &sums, &squares, &gram, &scores, &curvature})
      all.insert(all.end(), part->begin(), part->end());
    if (first.empty()) first = all;
    EXPECT_EQ(all, first);
    const auto cpu = make_cpu_probe_ops();
    std::vector<double> expected(at(C * D)), loss(at(C)), slopes(at(C));
    cpu->logistic(loss, expected, slopes, p.features(), p.w, p.b, p.signs);
    EXPECT_LT(distance(gw, expected), 1e-12);
    EXPECT_LT(distance(l, loss), 1e-12);
    cpu->weighted_sums(expected, p.features(), p.t);
    EXPECT_LT(distance(sums, expected), 1e-12);
  }
}

TEST(ProbeOps, SameBitsForAnyNumberOfThreads) {
  const Problem p(1003, 193, 2);
  std::vector<double> first;
  const int before = omp_get_max_threads();
  for (const int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    const auto ops = make_cpu_probe_ops();
    std::vector<double> l(2), gw(2 * 193), gb(2), sw(2 * 193), sb(2), sums(2 * 193), squares(193),
        gram(193 * 193);
    ops->logistic(l, gw, gb, p.features(), p.w, p.b, p.signs);
    const double loss = ops->softmax(sw, sb, p.features(), p.w, p.b, p.classes);
    ops->weighted_sums(sums, p.features(), p.t);
    ops->squares(squares, p.features());
    ops->gram(gram, p.features(), p.weights);
    std::vector<double> all = {loss}, factor = gram;
    ASSERT_TRUE(ops->cholesky(factor, 193));
    for (const auto* part : {&l, &gw, &gb, &sw, &sb, &sums, &squares, &gram, &factor})
      all.insert(all.end(), part->begin(), part->end());
    if (first.empty()) first = all;
    EXPECT_EQ(all, first) << threads << " threads";
  }
  omp_set_num_threads(before);
}

}  // namespace
}  // namespace sonde
