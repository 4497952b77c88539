// The packed GEMM: against float64, and bit for bit over threads, batches, paths and k blocks.
#include "kernels/cpu/gemm.h"
#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

struct Shape {
  std::int64_t t, n, k;
};
const Shape kShapes[] = {{1, 1, 1},      {1, 33, 257},   {7, 1, 33},     {33, 7, 7},
                         {257, 33, 1},   {8, 96, 576},   {13, 48, 1537}, {257, 257, 257},
                         {5, 192, 2100}, {200, 16, 900}, {1, 64, 29000}};

oracle::Values rounded(oracle::Values x, Precision precision) {
  for (double& v : x) {
    const auto value = static_cast<float>(v);
    if (precision == Precision::bf16) v = static_cast<double>(round_to_bf16(value));
    if (precision == Precision::f16) v = static_cast<double>(to_float(to_f16(value)));
  }
  return x;
}

// A chain of roundings is off like a random walk.
double tolerance(const Shape& s) { return 1e-7 + 3e-8 * std::sqrt(static_cast<double>(s.k)); }

class Linear : public OpTest {};

TEST_P(Linear, MatchesTheOracle) {
  for (const Shape& s : kShapes)
    for (Slab slab : {Slab::no, Slab::yes})
      for (Precision precision : {Precision::f32, Precision::bf16, Precision::f16}) {
        if (on_cpu() && precision == Precision::f16) continue;
        const Random x({s.t, s.k}, 1, slab), w({s.n, s.k}, 2, slab), bias({s.n}, 3), y({s.t, s.n}, 4, slab);
        const auto packed = backend_.prepare_weight(w, precision);
        EXPECT_EQ(packed->n(), s.n);
        EXPECT_EQ(packed->k(), s.k);
        const auto xs = rounded(values(x), precision), ws = rounded(values(w), precision);
        for (bool with_bias : {false, true}) {
          backend_.linear(y, x, *packed, with_bias ? bias.view : Tensor{});
          const auto expected = oracle::linear(xs, ws, with_bias ? values(bias) : oracle::Values{}, size(s.t),
                                               size(s.n), size(s.k));
          EXPECT_LT(oracle::relative_error(values(y), expected), tolerance(s))
              << s.t << " x " << s.n << " x " << s.k;
        }
      }
}

TEST_P(Linear, BitsIgnoreThreadsAndBatch) {
  for (const Shape& s : kShapes)
    for (Precision precision : {Precision::f32, Precision::bf16}) {
      const Random x({s.t, s.k}, 1), w({s.n, s.k}, 2), bias({s.n}, 3), y({s.t, s.n}, 4), again({s.t, s.n}, 5);
      const auto packed = backend_.prepare_weight(w, precision);
      backend_.linear(y, x, *packed, bias);
      for (int threads : {1, 2, 3, 7}) {
        const Threads scope(threads);
        backend_.linear(again, x, *packed, bias);
        EXPECT_TRUE(same_bits(y, again))
            << s.t << " x " << s.n << " x " << s.k << ", " << threads << " threads";
      }
      if (!on_cpu()) continue;  // a GPU's GEMM goes by the number of rows
      const Random row({1, s.n}, 6);
      for (std::int64_t t = 0; t < s.t; t += 1 + s.t / 9) {
        backend_.linear(row, x.view.slice_rows(t, 1), *packed, bias);
        EXPECT_TRUE(same_bits(row, y.view.slice_rows(t, 1))) << "row " << t << " of " << s.t;
      }
    }
}

TEST_P(Linear, BitsOfF32EqualTheGenericPath) {
  if (!on_cpu()) GTEST_SKIP() << "of the CPU's paths";
  cpu::CpuBackend generic(CpuPath::generic);
  for (const Shape& s : kShapes) {
    const Random x({s.t, s.k}, 1), w({s.n, s.k}, 2), y({s.t, s.n}, 4), expected({s.t, s.n}, 5);
    backend_.linear(y, x, *backend_.prepare_weight(w, Precision::f32));
    generic.linear(expected, x, *generic.prepare_weight(w, Precision::f32));
    EXPECT_TRUE(same_bits(y, expected)) << s.t << " x " << s.n << " x " << s.k;
  }
}

// The kernel of pairs, with its dot product in f32 steps where the CPU has none: packing and tiles are the
// same.
TEST_P(Linear, PairsOfBf16) {
  if (!on_cpu()) GTEST_SKIP() << "of the CPU's paths";
  const cpu::GemmKernel& kernel = cpu::kernels_of(path()).bf16_dot;
  for (const Shape& s : kShapes) {
    const Random x({s.t, s.k}, 1, Slab::yes), w({s.n, s.k}, 2), bias({s.n}, 3), y({s.t, s.n}, 4),
        row({1, s.n}, 5);
    const cpu::PackedWeight packed(kernel, w);
    cpu::gemm(y, x, packed, bias.view.f32());
    const auto expected =
        oracle::linear(rounded(values(x), Precision::bf16), rounded(values(w), Precision::bf16), values(bias),
                       size(s.t), size(s.n), size(s.k));
    EXPECT_LT(oracle::relative_error(values(y), expected), tolerance(s))
        << s.t << " x " << s.n << " x " << s.k;
    cpu::gemm(row, x.view.slice_rows(s.t / 2, 1), packed, bias.view.f32());
    EXPECT_TRUE(same_bits(row, y.view.slice_rows(s.t / 2, 1)));
  }
}

TEST_P(Linear, NanStaysInItsRow) {
  const Random x({9, 40}, 1), w({20, 40}, 2), y({9, 20}, 3), clean({9, 20}, 3);
  const auto packed = backend_.prepare_weight(w, Precision::bf16);
  backend_.linear(clean, x, *packed);
  x.view.row(4)[11] = std::numeric_limits<float>::quiet_NaN();
  backend_.linear(y, x, *packed);
  for (std::int64_t t = 0; t < 9; ++t)
    EXPECT_EQ(same_bits(y.view.slice_rows(t, 1), clean.view.slice_rows(t, 1)), t != 4);
  EXPECT_TRUE(std::isnan(y.view.row(4)[0]));
}

TEST_P(Linear, NothingToDo) {
  const Random w({20, 40}, 2);
  const auto packed = backend_.prepare_weight(w, Precision::f32);
  backend_.linear(Tensor(nullptr, DType::f32, {0, 20}), Tensor(nullptr, DType::f32, {0, 40}), *packed);
}

TEST_P(Linear, RefusesWrongShapes) {
  const Random w({20, 40}, 2), x({3, 40}, 1), y({3, 20}, 1), narrow({3, 39}, 1), bias({19}, 1);
  const auto packed = backend_.prepare_weight(w, Precision::f32);
  EXPECT_THROW(backend_.linear(y, narrow, *packed), Error);
  EXPECT_THROW(backend_.linear(narrow, x, *packed), Error);
  EXPECT_THROW(backend_.linear(y, x, *packed, bias), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, Linear, testing::ValuesIn(kOpDevices),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sonde::test
