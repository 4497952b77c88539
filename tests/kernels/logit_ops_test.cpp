// What is asked of logits: probabilities of targets, the largest ones, penalties. Against float64 and a sort
// of all.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

class LogitOps : public OpTest {};

TEST_P(LogitOps, LogSoftmaxAt) {
  for (std::int64_t V : {1, 7, 33, 257}) {
    const Random logits({33, V}, 1, Slab::yes, 8);
    std::vector<std::int32_t> targets;
    for (std::int64_t t = 0; t < 33; ++t) targets.push_back(static_cast<std::int32_t>(t * 31 % V));
    std::vector<double> found(33);
    backend_.log_softmax_at(found, logits, targets);
    const auto pattern = oracle::softmax(values(logits), size(V));
    for (std::size_t t = 0; t < 33; ++t)
      ASSERT_NEAR(found[t], std::log(pattern[t * size(V) + size(targets[t])]), 1e-6) << V;
  }
}

// As a probability at a temperature.
TEST_P(LogitOps, LogSoftmaxAtATemperature) {
  const Random logits({7, 257}, 1, Slab::yes, 8);
  const std::vector<std::int32_t> targets(7, 5);
  for (const float temperature : {0.5f, 1.7f}) {
    std::vector<double> found(7);
    backend_.log_softmax_at(found, logits, targets, temperature);
    auto scaled = values(logits);
    for (double& value : scaled) value /= static_cast<double>(temperature);
    const auto pattern = oracle::softmax(scaled, 257);
    for (std::size_t t = 0; t < 7; ++t) ASSERT_NEAR(found[t], std::log(pattern[t * 257 + 5]), 2e-6);
  }
  std::vector<double> out(7);
  EXPECT_THROW(backend_.log_softmax_at(out, logits, targets, 0), Error);
}

// Values with many ties, with zeros of both signs, infinities and NaN, against a sort of all.
TEST_P(LogitOps, TopK) {
  for (std::int64_t V : {1, 7, 33, 257, 3000, 5004})
    for (std::int64_t k : {1, 2, 5, 64, 1000, 1024})
      for (Slab slab : {Slab::no, Slab::yes}) {
        if (k > V) continue;
        const Random x({3, V}, 1, slab, 8);
        for (std::int64_t i = 0; i < V; ++i) {
          float& value = x.view.row(1)[i];
          value = std::round(value / 4);  // few values
          if (value == 0 && i % 2 == 1) value = -0.0f;
          if (i % 97 == 5) x.view.row(2)[i] = std::numeric_limits<float>::quiet_NaN() * (i % 2 ? -1 : 1);
          if (i % 89 == 3) x.view.row(2)[i] = std::numeric_limits<float>::infinity() * (i % 2 ? -1 : 1);
        }
        std::vector<Candidate> found(size(3 * k));
        backend_.top_k(found, x, k);
        for (std::int64_t t = 0; t < 3; ++t) {
          const float* row = x.view.row(t);
          std::vector<std::int32_t> order(size(V));
          std::iota(order.begin(), order.end(), 0);
          std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
            return std::isnan(row[a]) ? !std::isnan(row[b]) : row[a] > row[b];
          });
          for (std::int64_t i = 0; i < k; ++i) {
            const Candidate c = found[size(t * k + i)];
            ASSERT_EQ(c.index, order[size(i)]) << V << " " << k << " row " << t << " place " << i;
            ASSERT_TRUE(c.value == row[c.index] || (std::isnan(c.value) && std::isnan(row[c.index])));
          }
        }
      }
  const Random x({2, 5}, 1), wide({1, 2000}, 1);
  std::vector<Candidate> two(2), six(6), many(1025);
  EXPECT_THROW(backend_.top_k(two, x, 0), Error);
  EXPECT_THROW(backend_.top_k(six, x, 6), Error);
  EXPECT_THROW(backend_.top_k(six, x, 2), Error);
  EXPECT_THROW(backend_.top_k(many, wide, 1025), Error);
}

TEST_P(LogitOps, Penalise) {
  const Random x({3, 300}, 1, Slab::yes), before({3, 300}, 1, Slab::yes);
  std::vector<std::int32_t> rows, columns;
  for (std::int32_t i = 0; i < 280; ++i) rows.push_back(i % 2 * 2), columns.push_back(i);
  backend_.penalise(x, rows, columns, 1.3);
  for (std::int64_t t = 0; t < 3; ++t)
    for (std::int64_t i = 0; i < 300; ++i) {
      const auto was = static_cast<double>(before.view.row(t)[i]);
      const bool chosen = i < 280 && t == i % 2 * 2;
      ASSERT_EQ(x.view.row(t)[i],
                chosen ? static_cast<float>(was > 0 ? was / 1.3 : was * 1.3) : before.view.row(t)[i]);
    }
  const std::vector<std::int32_t> one{1}, beyond{300};
  EXPECT_THROW(backend_.penalise(x, one, beyond, 2), Error);
  EXPECT_THROW(backend_.penalise(x, one, one, 0), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, LogitOps, testing::ValuesIn(kOpDevices),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sonde::test
