// Attention, fused and in steps: against float64; a document's result never depends on threads or neighbours.
#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

struct Case {
  std::vector<std::int32_t> starts;
  std::int64_t H, K, E;
  float softcap = 0;
  std::int64_t window = 0;
  std::vector<std::int32_t> cached = {};  // keys of each document that come before its queries
};
const Case kCases[] = {
    {{0, 1}, 1, 1, 1},
    {{0, 7, 7, 8, 41}, 4, 2, 16},
    {{0, 257}, 3, 1, 33},
    {{0, 33, 340}, 6, 2, 64},
    {{0, 48, 97, 353}, 2, 2, 7},
    {{0, 300}, 2, 1, 257},
    {{0, 300}, 1, 1, 256},
    {{0, 33, 340}, 6, 2, 64, 3.0f},
    {{0, 1, 60}, 2, 1, 16, 0, 1},        // a window of its own key
    {{0, 48, 97, 700}, 2, 1, 16, 0, 8},  // a window that starts inside and beyond key blocks
    {{0, 40, 640}, 2, 1, 16, 5.0f, 300},
    {{0, 20}, 2, 2, 8, 0, 1000},  // wider than the text
    {{0, 1, 2, 3}, 4, 2, 16, 0, 0, {0, 255, 600}},
    {{0, 1, 8, 9}, 4, 2, 16, 2.0f, 100, {90, 300, 520}},
};

// Keys and values as a cache holds them: documents in reverse order, with a gap before each.
struct Keys {
  Keys(const Case& c) {
    std::int32_t row = 0;
    for (std::size_t d = c.starts.size() - 1; d-- > 0;) {
      row += 3;
      first.insert(first.begin(), row);
      count.insert(count.begin(), c.starts[d + 1] - c.starts[d] + (c.cached.empty() ? 0 : c.cached[d]));
      row += count.front();
    }
    rows = row;
    if (!c.cached.empty()) return;
    for (std::size_t d = 0; d + 1 < c.starts.size(); ++d) first[d] = c.starts[d];
    rows = c.starts.back();
  }
  std::vector<std::int32_t> first, count;
  std::int64_t rows;
};

oracle::AttentionCase oracle_case(const Case& c, const Keys& keys, const AttentionSpec& spec,
                                  std::int64_t S) {
  return {c.starts,
          keys.first,
          keys.count,
          static_cast<double>(spec.scale),
          static_cast<double>(c.softcap),
          size(c.window),
          size(c.H),
          size(c.K),
          size(c.E),
          size(S)};
}

class Attention : public OpTest {};

// log sum_j exp(scores[.][j]) of rows of S.
oracle::Values log_sums(const oracle::Values& scores, std::size_t S) {
  oracle::Values sums;
  for (std::size_t row = 0; row < scores.size(); row += S) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t j = 0; j < S; ++j) largest = std::max(largest, scores[row + j]);
    for (std::size_t j = 0; j < S; ++j) sum += std::exp(scores[row + j] - largest);
    sums.push_back(largest + std::log(sum));
  }
  return sums;
}

TEST_P(Attention, MatchesTheOracle) {
  for (const Case& c : kCases)
    for (double sharpness : {1.0, 40.0}) {  // flat patterns, and patterns of almost one key
      const std::int64_t T = c.starts.back();
      const Documents documents{c.starts};
      const Keys keys(c);
      const KeyRanges ranges = c.cached.empty() ? KeyRanges{} : KeyRanges{keys.first, keys.count};
      const std::int64_t S = *std::max_element(keys.count.begin(), keys.count.end()) + 3;
      const Random q({T, c.H, c.E}, 1, Slab::yes), k({keys.rows, c.K, c.E}, 2, Slab::yes),
          v({keys.rows, c.K, c.E}, 3, Slab::yes);
      const Random z({T, c.H, c.E}, 4, Slab::yes), scores({T, c.H, S}, 5), pattern({T, c.H, S}, 6),
          lse({T, c.H}, 7, Slab::yes);
      const AttentionSpec spec{static_cast<float>(sharpness / std::sqrt(static_cast<double>(c.E))), c.softcap,
                               c.window, Precision::f32, lse};
      const oracle::AttentionCase expected_case = oracle_case(c, keys, spec, S);
      const auto expected_scores = oracle::attention_scores(values(q), values(k), expected_case);
      const auto expected = oracle::attention(values(q), values(k), values(v), expected_case);
      const double tolerance = sharpness > 1 ? 1e-5 : 1e-6;

      backend_.attention(z, q, k, v, documents, ranges, spec);
      EXPECT_LT(oracle::relative_error(values(z), expected), tolerance) << "fused, T " << T << " E " << c.E;
      EXPECT_LT(oracle::relative_error(values(lse), log_sums(expected_scores, size(S))), 1e-6)
          << "log-sum-exp, T " << T << " E " << c.E;
      backend_.attention_scores(scores, q, k, documents, ranges, spec);
      oracle::Values finite = values(scores), finite_expected = expected_scores;
      for (std::size_t i = 0; i < finite.size(); ++i) {
        ASSERT_EQ(std::isinf(finite[i]), std::isinf(finite_expected[i])) << i;
        if (std::isinf(finite[i])) finite[i] = finite_expected[i] = 0;
      }
      EXPECT_LT(oracle::relative_error(finite, finite_expected), 1e-6) << "scores";
      backend_.softmax(pattern, scores);
      EXPECT_LT(oracle::relative_error(values(pattern), oracle::softmax(expected_scores, size(S))),
                tolerance);
      backend_.attention_apply(z, pattern, v, documents, ranges);
      EXPECT_LT(oracle::relative_error(values(z), expected), tolerance) << "steps, T " << T << " E " << c.E;
    }
}

void with_operands(Backend& backend, Precision precision, double limit) {
  std::vector<Case> all(std::begin(kCases), std::end(kCases));
  for (const std::int64_t width : {16, 32, 64, 80, 96, 112, 128, 256}) {
    all.push_back({{0, 70, 75, 210}, 4, 2, width, 0, width == 64 ? 40 : 0});
    all.push_back({{0, 5, 75}, 2, 1, width, 3.0f, 0, {130, 60}});
  }
  for (const Case& c : all) {
    const std::int64_t T = c.starts.back();
    const Keys keys(c);
    const KeyRanges ranges = c.cached.empty() ? KeyRanges{} : KeyRanges{keys.first, keys.count};
    const std::int64_t S = *std::max_element(keys.count.begin(), keys.count.end());
    const Random q({T, c.H, c.E}, 1, Slab::yes), k({keys.rows, c.K, c.E}, 2, Slab::yes),
        v({keys.rows, c.K, c.E}, 3, Slab::yes), z({T, c.H, c.E}, 4, Slab::yes), lse({T, c.H}, 7, Slab::yes);
    for (const Random* x : {&q, &k, &v})
      for (std::int64_t r = 0; r < x->view.rows(); ++r)
        for (std::int64_t i = 0; i < x->view.width(); ++i)
          x->view.row(r)[i] = precision == Precision::bf16 ? round_to_bf16(x->view.row(r)[i])
                                                           : to_float(to_f16(x->view.row(r)[i]));
    const AttentionSpec spec{static_cast<float>(1 / std::sqrt(static_cast<double>(c.E))), c.softcap, c.window,
                             precision, lse};
    const oracle::AttentionCase expected_case = oracle_case(c, keys, spec, S);
    const auto expected = oracle::attention(values(q), values(k), values(v), expected_case);
    backend.attention(z, q, k, v, {c.starts}, ranges, spec);
    EXPECT_LT(oracle::relative_error(values(z), expected), limit) << "T " << T << " E " << c.E;
    const auto sums = log_sums(oracle::attention_scores(values(q), values(k), expected_case), size(S));
    EXPECT_LT(oracle::relative_error(values(lse), sums), 2e-6) << "log-sum-exp, T " << T << " E " << c.E;
  }
}

// With operands in bf16 and f16, where the backend has tensor cores for them: what rounds are the weights of
// the values.
TEST_P(Attention, WithOperandsInBf16) { with_operands(backend_, Precision::bf16, 3e-3); }
TEST_P(Attention, WithOperandsInF16) { with_operands(backend_, Precision::f16, 4e-4); }

// Queries one by one against a growing range of keys: on a CPU the same bits as the whole document at once,
// on a GPU, whose kernels for one query sum in another order, the same values.
TEST_P(Attention, TokenByTokenFromACache) {
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const Case& c : kCases) {
      if (!c.cached.empty()) continue;
      const std::int64_t T = c.starts.back();
      const Random q({T, c.H, c.E}, 1), k({T, c.K, c.E}, 2), v({T, c.K, c.E}, 3), z({T, c.H, c.E}, 4),
          steps({T, c.H, c.E}, 5);
      const AttentionSpec spec{0.3f, c.softcap, c.window, precision};
      backend_.attention(z, q, k, v, {c.starts}, {}, spec);
      const std::vector<std::int32_t> one{0, 1};
      for (std::size_t d = 0; d + 1 < c.starts.size(); ++d)
        for (std::int32_t t = c.starts[d]; t < c.starts[d + 1]; ++t) {
          const std::vector<std::int32_t> first{c.starts[d]}, count{t + 1 - c.starts[d]};
          backend_.attention(steps.view.slice_rows(t, 1), q.view.slice_rows(t, 1), k, v, {one},
                             {first, count}, spec);
        }
      if (on_cpu())
        EXPECT_TRUE(same_bits(steps, z)) << T << " tokens";
      else
        EXPECT_LT(oracle::relative_error(values(steps), values(z)), precision == Precision::f32 ? 2e-6 : 2e-2)
            << T << " tokens";
    }
}

TEST_P(Attention, BitsIgnoreThreadsNeighboursAndPath) {
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const Case& c : kCases) {
      if (!c.cached.empty()) continue;
      const std::int64_t T = c.starts.back();
      const Random q({T, c.H, c.E}, 1), k({T, c.K, c.E}, 2), v({T, c.K, c.E}, 3), z({T, c.H, c.E}, 4);
      const Random again({T, c.H, c.E}, 5);
      const AttentionSpec spec{0.3f, c.softcap, c.window, precision};
      backend_.attention(z, q, k, v, {c.starts}, {}, spec);
      for (int threads : {1, 2, 3}) {
        const Threads scope(threads);
        backend_.attention(again, q, k, v, {c.starts}, {}, spec);
        EXPECT_TRUE(same_bits(z, again)) << threads << " threads";
      }
      if (precision == Precision::bf16 && !on_cpu()) continue;  // short documents go another way there
      for (std::size_t d = 0; d + 1 < c.starts.size();
           ++d) {  // each document alone, and without its last token
        for (std::int32_t cut : {0, 1}) {
          const std::int32_t begin = c.starts[d], n = c.starts[d + 1] - begin - cut;
          if (n < 1) continue;
          const std::vector<std::int32_t> alone{0, n};
          const Random one({n, c.H, c.E}, 6);
          backend_.attention(one, q.view.slice_rows(begin, n), k.view.slice_rows(begin, n),
                             v.view.slice_rows(begin, n), {alone}, {}, spec);
          EXPECT_TRUE(same_bits(one, z.view.slice_rows(begin, n))) << "document " << d << " of T " << T;
        }
      }
      if (!on_cpu() || precision == Precision::bf16) continue;
      cpu::CpuBackend(CpuPath::generic).attention(again, q, k, v, {c.starts}, {}, spec);
      EXPECT_TRUE(same_bits(z, again)) << "generic path";
    }
}

// A key or value that isn't finite reaches the queries that see it and changes no bit of the others.
TEST_P(Attention, NanStaysWithTheTokensThatSeeIt) {
  const std::vector<std::int32_t> starts{0, 40, 100};
  constexpr std::int64_t kBad = 57;
  for (const std::int64_t window : {0, 5, 20})
    for (const bool in_values : {false, true}) {
      const Random q({100, 2, 16}, 1), k({100, 1, 16}, 2), v({100, 1, 16}, 3), clean({100, 2, 16}, 4);
      const Random z({100, 2, 16}, 5), scores({100, 2, 60}, 6), pattern({100, 2, 60}, 7),
          steps({100, 2, 16}, 8);
      const Random clean_steps({100, 2, 16}, 9);
      const AttentionSpec spec{0.25f, 0, window};
      const auto run = [&](const Tensor& fused, const Tensor& in_steps) {
        backend_.attention(fused, q, k, v, {starts}, {}, spec);
        backend_.attention_scores(scores, q, k, {starts}, {}, spec);
        backend_.softmax(pattern, scores);
        backend_.attention_apply(in_steps, pattern, v, {starts}, {});
      };
      run(clean, clean_steps);
      (in_values ? v : k).view.row(kBad)[3] = std::numeric_limits<float>::quiet_NaN();
      run(z, steps);
      for (std::int64_t t = 0; t < 100; ++t) {
        const bool sees = t >= kBad && (window == 0 || t < kBad + window);
        for (const auto& [found, right] : {std::pair<Tensor, Tensor>(z, clean), {steps, clean_steps}}) {
          EXPECT_EQ(std::isnan(found.row(t)[3]), sees) << t << " window " << window;
          EXPECT_TRUE(sees || same_bits(found.slice_rows(t, 1), right.slice_rows(t, 1))) << t;
        }
      }
    }
}

// The same where tiles hold queries that see a key beside such that don't, and words pairs of keys.
TEST_P(Attention, NanOfAKeyThatIsNotSeenInBf16) {
  for (const std::int64_t window : {0, 5, 20})
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const std::int64_t T = 150, H = 2, E = 40, at = 70;
      const std::vector<std::int32_t> starts = {0, 10, static_cast<std::int32_t>(T)};
      const Random q({T, H, E}, 1), k({T, 1, E}, 2), v({T, 1, E}, 3), z({T, H, E}, 4), clean({T, H, E}, 5);
      AttentionSpec spec{0.2f, 0, window, Precision::bf16};
      backend_.attention(clean, q, k, v, {starts}, {}, spec);
      v.view.row(at)[3] = bad;
      backend_.attention(z, q, k, v, {starts}, {}, spec);
      for (std::int64_t t = 0; t < T; ++t)
        for (std::int64_t i = 0; i < H * E; ++i) {
          const bool sees = t >= at && (window == 0 || t < at + window);
          if (sees && i % E == 3) {
            EXPECT_FALSE(std::isfinite(z.view.row(t)[i])) << t << " " << i;
          } else if (!sees) {
            EXPECT_EQ(z.view.row(t)[i], clean.view.row(t)[i]) << t << " " << i;
          }
        }
    }
}

// Weight that an edit puts on a later key counts.
TEST_P(Attention, AppliesWeightsOfLaterKeys) {
  const std::vector<std::int32_t> starts{0, 7};
  const Random pattern({7, 2, 9}, 1), v({7, 2, 5}, 2), z({7, 2, 5}, 3);
  backend_.attention_apply(z, pattern, v, {starts}, {});
  const auto expected =
      oracle::attention_apply(values(pattern), values(v), oracle::packed_attention(starts, 1, 2, 2, 5, 9));
  EXPECT_LT(oracle::relative_error(values(z), expected), 1e-6);
}

TEST_P(Attention, RefusesWrongShapes) {
  const Random q({5, 4, 8}, 1), k({5, 2, 8}, 2), three({5, 3, 8}, 3), z({5, 4, 8}, 4), scores({5, 4, 4}, 5);
  const std::vector<std::int32_t> starts{0, 5}, gap{0, 4}, back{0, 6, 5};
  EXPECT_THROW(backend_.attention(z, q, three, three, {starts}, {}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, three, {starts}, {}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {gap}, {}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {back}, {}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {}, {}, {1}), Error);
  const std::vector<std::int32_t> first{0}, beyond{6}, fewer{4};
  EXPECT_THROW(backend_.attention(z, q, k, k, {starts}, {first, beyond}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {starts}, {first, fewer}, {1}), Error);
  EXPECT_THROW(backend_.attention(z, q, k, k, {starts}, {first, {}}, {1}), Error);
  EXPECT_THROW(backend_.attention_scores(scores, q, k, {starts}, {}, {1}), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, Attention, testing::ValuesIn(kOpDevices),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sonde::test
