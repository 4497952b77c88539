// Products of e4m3: against float64 of operands rounded alike, by a search of all the codes; what a row has
// to do with its neighbours, and what becomes of numbers that are none.
#include "kernels/emulation/config.h"
#include "tests/kernels/op_test.h"
#include "tests/oracle/e4m3.h"

namespace sonde::test {
namespace {

constexpr auto kNan = std::numeric_limits<float>::quiet_NaN();
constexpr auto kInf = std::numeric_limits<float>::infinity();

oracle::Values rounded(const Tensor& t) {
  oracle::Values all;
  for (std::int64_t i = 0; i < t.rows(); ++i)
    for (const double v : oracle::row_in_e4m3(t.row(i), size(t.width()))) all.push_back(v);
  return all;
}

class Fp8 : public OpTest {
 protected:
  void SetUp() override {
    OpTest::SetUp();
    if (IsSkipped()) return;
    if (on_cpu()) GTEST_SKIP() << "of devices";
    const bool emulated = GetParam() == "emulated";
    const int compute =
        emulated ? emulation::config().compute : cuda_gpus()[0].major * 10 + cuda_gpus()[0].minor;
    if (compute < 89) GTEST_SKIP() << "compute capability " << compute / 10 << "." << compute % 10;
  }
  // Tensor cores add up with fewer bits than a float has.
  double limit(std::int64_t k) const {
    return GetParam() == "cuda" ? 1e-3 : 1e-7 + 3e-8 * std::sqrt(static_cast<double>(k));
  }
  Random product(const Tensor& x, const Weight& w, const Tensor& bias = {}, Slab slab = Slab::no) {
    Random y({x.rows(), w.n()}, 9, slab);
    backend_.linear(y, x, w, bias);
    return y;
  }
};

TEST_P(Fp8, MatchesTheOracle) {
  struct Shape {
    std::int64_t t, n, k;
  };
  for (const Shape& s : {Shape{1, 1, 1},
                         {1, 33, 257},
                         {2, 64, 9000},
                         {3, 1, 33},
                         {4, 48, 40},
                         {5, 7, 33},
                         {7, 1, 16},
                         {8, 96, 576},
                         {13, 48, 1537},
                         {33, 16, 7},
                         {200, 16, 300},
                         {257, 33, 1}})
    for (const Slab slab : {Slab::no, Slab::yes}) {
      const Random x({s.t, s.k}, 1, slab), w({s.n, s.k}, 2, slab), bias({s.n}, 3);
      const auto packed = backend_.prepare_weight(w, Precision::fp8);
      EXPECT_EQ(packed->n(), s.n);
      EXPECT_EQ(packed->k(), s.k);
      EXPECT_GE(packed->bytes(), bytes_of_weight(Precision::fp8, s.n, s.k));
      const auto xs = rounded(x), ws = rounded(w);
      for (const bool with_bias : {false, true}) {
        const Random y = product(x, *packed, with_bias ? bias.view : Tensor{}, slab);
        const auto expected = oracle::linear(xs, ws, with_bias ? values(bias) : oracle::Values{}, size(s.t),
                                             size(s.n), size(s.k));
        EXPECT_LT(oracle::relative_error(values(y), expected), limit(s.k))
            << s.t << " x " << s.n << " x " << s.k;
      }
    }
}

// With 448 in every row all scales are 1, and 448 times the unit matrix shows what became of each value.
TEST_P(Fp8, RoundsToTheNearestOfAllCodes) {
  constexpr std::int64_t K = 64;
  std::vector<float> all;
  for (int code = 0; code < 126; ++code) {
    const auto low = static_cast<float>(oracle::value_of_e4m3(code)),
               high = static_cast<float>(oracle::value_of_e4m3(code + 1)), middle = (low + high) / 2;
    for (const float v : {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInf)})
      all.insert(all.end(), {v, -v});
  }
  std::mt19937 random(3);
  while (all.size() < 2000 || all.size() % (K - 1) != 0)
    all.push_back(std::ldexp(std::uniform_real_distribution<float>(-1, 1)(random),
                             static_cast<int>(random() % 18) - 9));
  const auto rows = static_cast<std::int64_t>(all.size()) / (K - 1);
  const Random x({rows, K}, 1), w({K, K}, 2);
  for (std::int64_t i = 0; i < K; ++i)
    for (std::int64_t j = 0; j < K; ++j) w.view.row(i)[j] = i == j ? 448.0f : 0.0f;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy_n(&all[size(r * (K - 1))], K - 1, x.view.row(r));
    x.view.row(r)[K - 1] = r % 2 == 0 ? 448.0f : -448.0f;
  }
  const auto packed = backend_.prepare_weight(w, Precision::fp8);
  for (std::int64_t at_once : {rows, std::int64_t{4}, std::int64_t{1}})
    for (std::int64_t first = 0; first < rows; first += at_once) {
      const Tensor some = x.view.slice_rows(first, std::min(at_once, rows - first));
      const Random y = product(some, *packed);
      for (std::int64_t r = 0; r < some.rows(); ++r)
        for (std::int64_t c = 0; c < K; ++c)
          ASSERT_EQ(static_cast<double>(y.view.row(r)[c]),
                    448 * oracle::nearest_e4m3(static_cast<double>(some.row(r)[c])))
              << "of " << some.row(r)[c] << ", " << at_once << " rows at once";
    }
}

TEST_P(Fp8, ARowIsItsOwn) {
  const Random x({13, 200}, 1), w({48, 200}, 2), bias({48}, 3);
  const auto packed = backend_.prepare_weight(w, Precision::fp8);
  const Random y = product(x, *packed, bias);
  for (std::int64_t t = 0; t < 13; ++t) {
    const Tensor here = y.view.slice_rows(t, 1);
    const Random alone = product(x.view.slice_rows(t, 1), *packed, bias);
    EXPECT_LT(oracle::relative_error(values(alone), values(here)), GetParam() == "cuda" ? 1e-3 : 1e-6) << t;
    for (const std::int64_t n : {2, 3, 4}) {
      if (t + n > 13) continue;
      const Random few = product(x.view.slice_rows(t, n), *packed, bias);
      EXPECT_TRUE(same_bits(few.view.slice_rows(0, 1), alone))
          << "row " << t << ", with " << n - 1 << " more";
    }
  }
  for (std::int64_t c = 0; c < 200; ++c)
    for (const std::int64_t t : {0, 7}) x.view.row(t)[c] *= 1e6f;
  const Random others = product(x, *packed, bias);
  for (std::int64_t t = 0; t < 13; ++t)
    EXPECT_EQ(same_bits(others.view.slice_rows(t, 1), y.view.slice_rows(t, 1)), t != 0 && t != 7) << t;
}

TEST_P(Fp8, WhatIsNoNumberShows) {
  const Random x({9, 40}, 1), w({20, 40}, 2), bias({20}, 3);
  std::fill_n(w.view.row(5), 40, 0.0f);
  std::fill_n(x.view.row(2), 40, 0.0f);
  const auto packed = backend_.prepare_weight(w, Precision::fp8);
  for (const std::int64_t rows : {9, 4}) {
    const Tensor some = x.view.slice_rows(0, rows);
    for (const float bad : {kNan, kInf, -kInf}) {
      const Random clean = product(some, *packed, bias);
      const float before = std::exchange(x.view.row(3)[11], bad);
      const Random y = product(some, *packed, bias);
      x.view.row(3)[11] = before;
      for (std::int64_t t = 0; t < rows; ++t)
        for (std::int64_t n = 0; n < 20; ++n) {
          const float found = y.view.row(t)[n];
          EXPECT_EQ(std::isnan(found), t == 3) << bad << ", row " << t << ", column " << n;
          if (t == 3) continue;
          EXPECT_EQ(found, t == 2 || n == 5 ? bias.view.f32()[n] : clean.view.row(t)[n])
              << bad << ", row " << t << ", column " << n;
        }
    }
  }
  w.view.row(7)[39] = kInf;
  const Random y = product(x, *backend_.prepare_weight(w, Precision::fp8), bias);
  for (std::int64_t n = 0; n < 20; ++n) EXPECT_EQ(std::isnan(y.view.row(0)[n]), n == 7) << n;
}

// Rows of any size that a float has, and values of a row that are far from each other.
TEST_P(Fp8, LargeAndSmall) {
  const double sizes[] = {1e30, 1e10, 1, 1e-10, 1e-30, 1e-38, 1e-41};
  const Random x({7, 100}, 1), w({32, 100}, 2), same({7, 100}, 1), one({32, 100}, 2);
  for (std::int64_t c = 0; c < 100; ++c) {
    for (std::int64_t t = 0; t < 7; ++t) {
      const double spread = c % 3 == 0 ? 1e-3 : 1;
      x.view.row(t)[c] = static_cast<float>(static_cast<double>(same.view.row(t)[c]) * sizes[t] * spread);
    }
    for (std::int64_t n = 0; n < 32; ++n) w.view.row(n)[c] *= n % 2 == 0 ? 1e6f : 1e3f;
  }
  const auto packed = backend_.prepare_weight(w, Precision::fp8);
  const auto expected = oracle::linear(rounded(x), rounded(w), {}, 7, 32, 100);
  for (const std::int64_t rows : {7, 3}) {
    for (std::int64_t first = 0; first < 7; first += rows) {
      const Tensor some = x.view.slice_rows(first, std::min(rows, 7 - first));
      const Random y = product(some, *packed);
      for (std::int64_t t = 0; t < some.rows(); ++t) {
        const auto from = expected.begin() + (first + t) * 32;
        EXPECT_LT(oracle::relative_error(values(y.view.slice_rows(t, 1)), oracle::Values(from, from + 32)),
                  std::max(1e-6, limit(100)))
            << "values of about " << sizes[first + t];
      }
    }
  }
}

TEST_P(Fp8, IsNotForKeptRows) {
  const Random w({2, 32}, 1);
  const std::vector<RawRow> rows = {{w.view.data, DType::f32}};
  EXPECT_THROW(backend_.keep_weight(rows, 32, Precision::fp8), Error);
}

TEST_P(Fp8, IsNotForProductsByExpert) {
  const Random w({16, 32}, 1), x({12, 32}, 2), y({12, 16}, 3), experts({12, 1}, 4);
  for (std::int64_t t = 0; t < 12; ++t) experts.view.row(t)[0] = static_cast<float>(t % 2);
  const auto one = backend_.prepare_weight(w, Precision::fp8),
             other = backend_.prepare_weight(w, Precision::fp8);
  const Weight* const both[] = {one.get(), other.get()};
  for (const std::int64_t rows : {3, 12})
    EXPECT_THROW(backend_.linear_by_expert(y.view.slice_rows(0, rows), x.view.slice_rows(0, rows),
                                           experts.view.slice_rows(0, rows), both, 0),
                 std::exception);
}

INSTANTIATE_TEST_SUITE_P(Paths, Fp8, testing::Values("emulated", "cuda"),
                         [](const auto& test) { return test.param; });

TEST(Fp8, TheCpuSaysThatItHasNone) {
  const Random w({2, 32}, 1);
  try {
    make_cpu_backend()->prepare_weight(w, Precision::fp8);
    FAIL() << "it has";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("--dtype fp8"), std::string::npos) << e.what();
  }
}

TEST(Fp8, OlderGpusAreRefused) {
  const int before = std::exchange(emulation::config().compute, 80);
  const Random w({2, 32}, 1);
  std::string said;
  try {
    make_emulated_backend()->prepare_weight(w, Precision::fp8);
  } catch (const Error& e) {
    said = e.what();
  }
  emulation::config().compute = before;
  EXPECT_NE(said.find("8.0, expected at least 8.9"), std::string::npos) << said;
}

}  // namespace
}  // namespace sonde::test
