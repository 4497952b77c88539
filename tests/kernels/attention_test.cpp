// Attention, fused and in steps: against float64; a document's result never depends on threads or neighbours.
#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

struct Case {
  std::vector<std::int32_t> starts;
  std::int64_t H, K, E;
};
const Case kCases[] = {
    {{0, 1}, 1, 1, 1},        {{0, 7, 7, 8, 41}, 4, 2, 16}, {{0, 257}, 3, 1, 33},
    {{0, 33, 340}, 6, 2, 64}, {{0, 48, 97, 353}, 2, 2, 7},  {{0, 50}, 2, 1, 257},
    {{0, 300}, 1, 1, 256},
};

class Attention : public testing::TestWithParam<CpuPath> {
 protected:
  void SetUp() override {
    if (GetParam() > best_cpu_path()) GTEST_SKIP() << "this CPU has no " << name(GetParam());
  }
  cpu::CpuBackend backend_{GetParam()};
};

TEST_P(Attention, MatchesTheOracle) {
  for (const Case& c : kCases)
    for (double sharpness : {1.0, 40.0}) {  // flat patterns, and patterns of almost one key
      const std::int64_t T = c.starts.back();
      const Documents documents{c.starts};
      const std::int64_t S = documents.longest() + 3;
      const Random q({T, c.H, c.E}, 1, Slab::yes), k({T, c.K, c.E}, 2, Slab::yes),
          v({T, c.K, c.E}, 3, Slab::yes);
      const Random z({T, c.H, c.E}, 4, Slab::yes), scores({T, c.H, S}, 5), pattern({T, c.H, S}, 6);
      const AttentionSpec spec{static_cast<float>(sharpness / std::sqrt(static_cast<double>(c.E)))};
      const auto scale = static_cast<double>(spec.scale);
      const auto H = size(c.H), K = size(c.K), E = size(c.E);
      const auto expected_scores =
          oracle::attention_scores(values(q), values(k), c.starts, scale, H, K, E, size(S));
      const auto expected =
          oracle::attention(values(q), values(k), values(v), c.starts, scale, H, K, E, size(S));
      const double tolerance = sharpness > 1 ? 1e-5 : 1e-6;

      backend_.attention(z, q, k, v, documents, spec);
      EXPECT_LT(oracle::relative_error(values(z), expected), tolerance) << "fused, T " << T << " E " << c.E;
      backend_.attention_scores(scores, q, k, documents, spec);
      oracle::Values finite = values(scores), finite_expected = expected_scores;
      for (std::size_t i = 0; i < finite.size(); ++i) {
        ASSERT_EQ(std::isinf(finite[i]), std::isinf(finite_expected[i])) << i;
        if (std::isinf(finite[i])) finite[i] = finite_expected[i] = 0;
      }
      EXPECT_LT(oracle::relative_error(finite, finite_expected), 1e-6) << "scores";
      backend_.softmax(pattern, scores);
      EXPECT_LT(oracle::relative_error(values(pattern), oracle::softmax(expected_scores, size(S))),
                tolerance);
      backend_.attention_apply(z, pattern, v, documents);
      EXPECT_LT(oracle::relative_error(values(z), expected), tolerance) << "steps, T " << T << " E " << c.E;
    }
}

TEST_P(Attention, BitsIgnoreThreadsNeighboursAndPath) {
  for (const Case& c : kCases) {
    const std::int64_t T = c.starts.back();
    const Random q({T, c.H, c.E}, 1), k({T, c.K, c.E}, 2), v({T, c.K, c.E}, 3), z({T, c.H, c.E}, 4);
    const Random again({T, c.H, c.E}, 5);
    const AttentionSpec spec{0.3f};
    backend_.attention(z, q, k, v, {c.starts}, spec);
    for (int threads : {1, 2, 3}) {
      const Threads scope(threads);
      backend_.attention(again, q, k, v, {c.starts}, spec);
      EXPECT_TRUE(same_bits(z, again)) << threads << " threads";
    }
    for (std::size_t d = 0; d + 1 < c.starts.size();
         ++d) {  // each document alone, and without its last token
      for (std::int32_t cut : {0, 1}) {
        const std::int32_t begin = c.starts[d], n = c.starts[d + 1] - begin - cut;
        if (n < 1) continue;
        const std::vector<std::int32_t> alone{0, n};
        const Random one({n, c.H, c.E}, 6);
        backend_.attention(one, q.view.slice_rows(begin, n), k.view.slice_rows(begin, n),
                           v.view.slice_rows(begin, n), {alone}, spec);
        EXPECT_TRUE(same_bits(one, z.view.slice_rows(begin, n))) << "document " << d << " of T " << T;
      }
    }
    cpu::CpuBackend(CpuPath::generic).attention(again, q, k, v, {c.starts}, spec);
    EXPECT_TRUE(same_bits(z, again)) << "generic path";
  }
}

TEST_P(Attention, NanOfLaterTokensAndOtherDocumentsStaysThere) {
  const std::vector<std::int32_t> starts{0, 40, 100};
  const Random q({100, 2, 16}, 1), k({100, 1, 16}, 2), v({100, 1, 16}, 3), z({100, 2, 16}, 4);
  k.view.row(60)[3] = std::numeric_limits<float>::quiet_NaN();
  backend_.attention(z, q, k, v, {starts}, {0.25f});
  for (std::int64_t t = 0; t < 100; ++t) EXPECT_EQ(std::isnan(z.view.row(t)[0]), t >= 60) << t;
}

// Weight that an edit puts on a later key counts.
TEST_P(Attention, AppliesWeightsOfLaterKeys) {
  const std::vector<std::int32_t> starts{0, 7};
  const Random pattern({7, 2, 9}, 1), v({7, 2, 5}, 2), z({7, 2, 5}, 3);
  backend_.attention_apply(z, pattern, v, {starts});
  EXPECT_LT(oracle::relative_error(values(z),
                                   oracle::attention_apply(values(pattern), values(v), starts, 2, 2, 5, 9)),
            1e-6);
}

TEST_P(Attention, RefusesWrongShapes) {
  const Random q({5, 4, 8}, 1), k({5, 2, 8}, 2), three({5, 3, 8}, 3), z({5, 4, 8}, 4), scores({5, 4, 4}, 5);
  const std::vector<std::int32_t> starts{0, 5}, gap{0, 4}, back{0, 6, 5};
  EXPECT_THROW(backend_.attention(z, q, three, three, {starts}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, three, {starts}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {gap}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {back}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {}, {1}), Error);
  EXPECT_THROW(backend_.attention_scores(scores, q, k, {starts}, {1}), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, Attention,
                         testing::Values(CpuPath::generic, CpuPath::avx2, CpuPath::avx512,
                                         CpuPath::avx512_bf16),
                         [](const auto& test) { return std::string(name(test.param)); });

}  // namespace
}  // namespace sonde::test
