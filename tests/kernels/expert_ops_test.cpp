// Products whose weight is a row's own, and the sum over a token's experts.
#include <cmath>

#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

class ExpertOps : public OpTest {
 protected:
  // [T, k], distinct within a row; every third expert is nobody's choice.
  static OwnedTensor choice(std::int64_t T, std::int64_t k, std::int64_t X, unsigned seed) {
    OwnedTensor experts = make_tensor(DType::f32, {T, k});
    std::mt19937 random(seed);
    std::vector<int> order;
    for (int e = 0; e < X; ++e)
      if (X < 3 || e % 3 != 1) order.push_back(e);
    for (std::int64_t t = 0; t < T; ++t) {
      std::shuffle(order.begin(), order.end(), random);
      for (std::int64_t i = 0; i < k; ++i) experts.view.row(t)[i] = static_cast<float>(order[size(i)]);
    }
    return experts;
  }
  // Each row is what `linear` makes of it alone with the weight of its expert: to the bit where experts have
  // few rows, else but for the order of sums. Rows of others stay.
  void check(const std::vector<std::unique_ptr<Weight>>& weights, const Tensor& experts, std::int64_t first,
             bool row_each) {
    const std::int64_t T = experts.dim(0), k = experts.dim(1), N = weights[0]->n(), K = weights[0]->k();
    std::vector<const Weight*> there;
    for (const auto& w : weights) there.push_back(w.get());
    const Random x({row_each ? T * k : T, K}, 5, Slab::yes), before({T * k, N}, 6), one({1, N}, 7);
    const Random y({T * k, N}, 6);
    const bool done = backend_.linear_by_expert(y, x, experts, there, first);
    EXPECT_EQ(done, !on_cpu());
    oracle::Values got, wanted;
    const bool few = T * k <= 4 * static_cast<std::int64_t>(weights.size());
    for (std::int64_t i = 0; i < T * k; i += T < 10 ? 1 : 7) {
      const auto e = static_cast<std::int64_t>(experts.row(i / k)[i % k]) - first;
      const bool here = done && e >= 0 && e < static_cast<std::int64_t>(weights.size());
      if (here) backend_.linear(one, x.view.slice_rows(row_each ? i : i / k, 1), *weights[size(e)]);
      const Tensor expected = here ? one.view : before.view.slice_rows(i, 1), row = y.view.slice_rows(i, 1);
      EXPECT_TRUE((here && !few) || same_bits(row, expected)) << "row " << i << ", expert " << e;
      for (const auto& [all, tensor] : {std::pair(&got, row), std::pair(&wanted, expected)})
        for (const double v : values(tensor)) all->push_back(v);
    }
    EXPECT_LT(oracle::relative_error(got, wanted), 1e-6);
  }
  // w [X N, K], x [T, K]
  static oracle::Values products(const Tensor& w, const Tensor& x, const Tensor& experts, std::int64_t N) {
    oracle::Values y;
    const std::int64_t k = experts.dim(1);
    for (std::int64_t i = 0; i < experts.count(); ++i)
      for (std::int64_t c = 0; c < N; ++c) {
        const auto e = static_cast<std::int64_t>(experts.row(i / k)[i % k]);
        double sum = 0;
        for (std::int64_t d = 0; d < x.dim(1); ++d)
          sum += static_cast<double>(w.row(e * N + c)[d]) * static_cast<double>(x.row(i / k)[d]);
        y.push_back(sum);
      }
    return y;
  }
  std::vector<std::unique_ptr<Weight>> dense(std::int64_t X, std::int64_t N, std::int64_t K, Precision p) {
    std::vector<std::unique_ptr<Weight>> weights;
    for (std::int64_t e = 0; e < X; ++e) {
      const Random w({N, K}, static_cast<unsigned>(100 + e));
      weights.push_back(backend_.prepare_weight(w, p));
    }
    return weights;
  }
  std::vector<std::unique_ptr<Weight>> of_blocks(DType dtype, std::int64_t X, std::int64_t N, std::int64_t K,
                                                 Precision precision) {
    Buffer memory(X * bytes_of(dtype, N * K));
    std::mt19937 random(9);
    for (std::int64_t i = 0; i < memory.bytes(); ++i) memory.data()[i] = std::byte(random() % 64);
    std::vector<std::unique_ptr<Weight>> weights;
    for (std::int64_t e = 0; e < X; ++e) {
      std::vector<RawRow> rows;
      for (std::int64_t r = 0; r < N; ++r)
        rows.push_back({memory.data() + (e * N + r) * bytes_of(dtype, K), dtype});
      weights.push_back(backend_.keep_weight(rows, K, precision));
    }
    return weights;
  }
};

TEST_P(ExpertOps, LinearByExpert) {
  for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16}) {
    if (on_cpu() && precision == Precision::f16) continue;
    for (const auto& [T, k, X] :
         {std::array<std::int64_t, 3>{1, 1, 1}, {1, 2, 8}, {3, 2, 8}, {20, 2, 4}, {20, 8, 20}, {5, 3, 40}})
      for (const auto& [N, K] : {std::pair<std::int64_t, std::int64_t>{5, 8}, {33, 72}}) {
        std::vector<std::unique_ptr<Weight>> weights = dense(X, N, K, precision);
        const OwnedTensor experts = choice(T, k, X, 3);
        check(weights, experts.view, 0, false);
        check(weights, experts.view, 0, true);
        if (X < 8) continue;  // some experts are elsewhere
        weights.erase(weights.begin(), weights.begin() + 2);
        weights.pop_back();
        check(weights, experts.view, 2, false);
      }
  }
}

// Tiles of 64 rows and of 128, whole and not, of experts with all rows, some, and none.
TEST_P(ExpertOps, ManyRows) {
  if (on_cpu()) GTEST_SKIP() << "the host tells the CPU each expert's rows";
  for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16})
    for (const auto& [T, k, X] :
         {std::array<std::int64_t, 3>{64, 1, 1}, {300, 1, 1}, {97, 2, 3}, {400, 1, 2}, {60, 4, 8}})
      for (const auto& [N, K] : {std::pair<std::int64_t, std::int64_t>{131, 72}, {64, 8}}) {
        if (precision == Precision::f16 && X != 3) continue;  // the same tiles
        std::vector<std::unique_ptr<Weight>> weights = dense(X, N, K, precision);
        const OwnedTensor experts = choice(T, k, X, 3);
        check(weights, experts.view, 0, false);
        check(weights, experts.view, 0, true);
        if (X < 3) continue;
        weights.erase(weights.begin());
        check(weights, experts.view, 1, false);
      }
}

// Every row, against float64.
TEST_P(ExpertOps, ManyRowsAreTheFormulas) {
  if (on_cpu()) GTEST_SKIP() << "the host tells the CPU each expert's rows";
  const std::int64_t T = 150, k = 2, X = 3, N = 133, K = 104;
  const Random w({X * N, K}, 1), x({T, K}, 2), y({T * k, N}, 3);
  const OwnedTensor experts = choice(T, k, X, 3);
  for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16}) {
    std::vector<std::unique_ptr<Weight>> weights;
    std::vector<const Weight*> there;
    for (std::int64_t e = 0; e < X; ++e) {
      weights.push_back(backend_.prepare_weight(w.view.slice_rows(e * N, N), precision));
      there.push_back(weights.back().get());
    }
    ASSERT_TRUE(backend_.linear_by_expert(y, x, experts.view, there, 0));
    EXPECT_LT(oracle::relative_error(values(y), products(w, x, experts.view, N)),
              precision == Precision::f32    ? 5e-7
              : precision == Precision::bf16 ? 4e-3
                                             : 5e-4);
  }
}

// Rows that nothing finite is in harm no others of their tile.
TEST_P(ExpertOps, ManyRowsStayApart) {
  if (on_cpu()) GTEST_SKIP() << "the host tells the CPU each expert's rows";
  const std::int64_t T = 70, N = 40, K = 32;
  const Random x({T, K}, 2), y({T, N}, 3), other({T, N}, 4);
  const auto weights = dense(1, N, K, Precision::bf16);
  const Weight* there[] = {weights[0].get()};
  const OwnedTensor experts = choice(T, 1, 1, 3);
  ASSERT_TRUE(backend_.linear_by_expert(y, x, experts.view, there, 0));
  x.view.row(5)[31] = std::nanf("");
  ASSERT_TRUE(backend_.linear_by_expert(other, x, experts.view, there, 0));
  for (std::int64_t t = 0; t < T; ++t)
    if (t == 5)
      EXPECT_TRUE(std::isnan(other.view.row(t)[N - 1]));
    else
      EXPECT_TRUE(same_bits(y.view.slice_rows(t, 1), other.view.slice_rows(t, 1))) << t;
}

TEST_P(ExpertOps, RowsThatCannotBeReadInPiecesAreTheHosts) {
  const std::int64_t T = 70, N = 4, K = 20;
  const Random x({T, K}, 2), y({T, N}, 3), before({T, N}, 3);
  const auto weights = dense(1, N, K, Precision::bf16);
  const Weight* there[] = {weights[0].get()};
  EXPECT_FALSE(backend_.linear_by_expert(y, x, choice(T, 1, 1, 3).view, there, 0));
  EXPECT_TRUE(same_bits(y, before));
}

TEST_P(ExpertOps, LinearByExpertOfBlocks) {
  const std::int64_t N = 6, K = 512, X = 4;
  for (const DType dtype : {DType::q4_k, DType::q6_k, DType::q8_0, DType::q4_0}) {
    const auto weights = of_blocks(dtype, X, N, K, Precision::f32);
    check(weights, choice(6, 2, X, 3).view, 0, false);
  }
}

TEST_P(ExpertOps, ManyRowsOfBlocks) {
  const std::int64_t N = 6, K = 256, X = 3;
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const auto weights = of_blocks(DType::q4_k, X, N, K, precision);
    check(weights, choice(270, 2, X, 3).view, 0, false);
    check(weights, choice(150, 2, X, 3).view, 0, true);
  }
}

// Against float64, of what the bits above rest on.
TEST_P(ExpertOps, AnExpertsProductIsTheFormulas) {
  if (on_cpu()) GTEST_SKIP() << "the host tells the CPU each expert's rows";
  const std::int64_t T = 5, k = 2, X = 3, N = 17, K = 64;
  const Random w({X * N, K}, 1), x({T, K}, 2), y({T * k, N}, 3);
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<const Weight*> there;
  for (std::int64_t e = 0; e < X; ++e) {
    weights.push_back(backend_.prepare_weight(w.view.slice_rows(e * N, N), Precision::f32));
    there.push_back(weights.back().get());
  }
  const OwnedTensor experts = choice(T, k, X, 3);
  ASSERT_TRUE(backend_.linear_by_expert(y, x, experts.view, there, 0));
  EXPECT_LT(oracle::relative_error(values(y), products(w, x, experts.view, N)), 5e-7);
}

TEST_P(ExpertOps, AddUpExperts) {
  for (const std::int64_t D : {1, 7, 33, 257})
    for (const auto& [first, n] : {std::pair<std::int64_t, std::int64_t>{0, 9}, {2, 4}}) {
      const std::int64_t T = 6, k = 3;
      const Random x({T * k, D}, 1, Slab::yes), weights({T, k}, 2), y({T, D}, 3, Slab::yes);
      const OwnedTensor experts = choice(T, k, 9, 4);
      oracle::Values expected;
      for (std::int64_t t = 0; t < T; ++t)
        for (std::int64_t d = 0; d < D; ++d) {
          double sum = 0;
          for (std::int64_t i = 0; i < k; ++i) {
            const auto e = static_cast<std::int64_t>(experts.view.row(t)[i]);
            if (e >= first && e < first + n)
              sum +=
                  static_cast<double>(weights.view.row(t)[i]) * static_cast<double>(x.view.row(t * k + i)[d]);
          }
          expected.push_back(sum);
        }
      for (std::int64_t t = 0; t < T * k; ++t) {  // what nobody computed is not read
        const auto e = static_cast<std::int64_t>(experts.view.row(t / k)[t % k]);
        if (e < first || e >= first + n) x.view.row(t)[0] = std::nanf("");
      }
      backend_.add_up_experts(y, x, experts.view, weights, first, n);
      EXPECT_LT(oracle::relative_error(values(y), expected), 3e-7);
      experts.view.row(2)[1] = -1;  // a router that chose nobody
      backend_.add_up_experts(y, x, experts.view, weights, first, n);
      EXPECT_TRUE(std::isnan(y.view.row(2)[0]));
      EXPECT_FALSE(std::isnan(y.view.row(3)[0]));
    }
}

TEST_P(ExpertOps, RefusesWrongShapes) {
  const Random w({4, 8}, 1), other({4, 16}, 1), x({3, 8}, 2), y({6, 4}, 3), experts({3, 2}, 4), d({3, 4}, 5);
  const auto weight = backend_.prepare_weight(w, Precision::f32);
  const auto wider = backend_.prepare_weight(other, Precision::f32);
  const Weight* one[] = {weight.get()};
  const Weight* two[] = {weight.get(), wider.get()};
  EXPECT_THROW(backend_.linear_by_expert(y, x, experts, {}, 0), Error);
  EXPECT_THROW(backend_.linear_by_expert(y, x, experts, two, 0), Error);
  EXPECT_THROW(backend_.linear_by_expert(y, x.view.slice_rows(0, 2), experts, one, 0), Error);
  EXPECT_THROW(backend_.linear_by_expert(x, x, experts, one, 0), Error);
  EXPECT_THROW(backend_.add_up_experts(d, x, experts, experts, 0, 1), Error);
  EXPECT_THROW(backend_.add_up_experts(y, y, experts, experts, 0, 1), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, ExpertOps, testing::ValuesIn(kOpDevices),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sonde::test
