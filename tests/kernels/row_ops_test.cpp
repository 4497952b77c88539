// Norms, rotations, gates, edits and casts: against float64, fused against steps, threads and paths bit for
// bit.
#include <functional>

#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

const std::int64_t kSizes[] = {1, 7, 33, 257};

class RowOps : public testing::TestWithParam<CpuPath> {
 protected:
  void SetUp() override {
    if (GetParam() > best_cpu_path()) GTEST_SKIP() << "this CPU has no " << name(GetParam());
  }
  // run(backend) gives a tensor: the same bits for any number of threads and on the generic path.
  void expect_same_bits(const std::function<Random(Backend&)>& run) {
    const Random first = run(backend_);
    for (int threads : {1, 2, 3}) {
      const Threads scope(threads);
      EXPECT_TRUE(same_bits(first, run(backend_))) << threads << " threads";
    }
    cpu::CpuBackend generic(CpuPath::generic);
    EXPECT_TRUE(same_bits(first, run(generic))) << "generic path";
  }
  cpu::CpuBackend backend_{GetParam()};
};

TEST_P(RowOps, RmsNormWholeFusedAndInSteps) {
  for (std::int64_t T : kSizes)
    for (std::int64_t D : kSizes)
      for (Slab slab : {Slab::no, Slab::yes}) {
        const Random x({T, D}, 1, slab), delta({T, D}, 2, slab), weight({D}, 3), y({T, D}, 4, slab);
        const Random resid({T, D}, 1, slab), sum({T, D}, 5), fused({T, D}, 6), steps({T, D}, 7, slab),
            scale({T, 1}, 8);
        backend_.rms_norm(y, x, weight, 1e-5f);
        EXPECT_LT(oracle::relative_error(values(y), oracle::rms_norm(values(x), values(weight), size(T),
                                                                     size(D), static_cast<double>(1e-5f))),
                  3e-7);
        backend_.rms_scale(scale, x, 1e-5f);
        backend_.divide_rows(steps, x, scale);
        backend_.multiply_columns(steps, steps, weight);
        EXPECT_TRUE(same_bits(y, steps));
        backend_.add(sum, x, delta);
        EXPECT_LT(oracle::relative_error(values(sum), oracle::add(values(x), values(delta))), 1e-7);
        backend_.rms_norm(y, sum, weight, 1e-5f);
        backend_.add_rms_norm(resid, fused, delta, weight, 1e-5f);
        EXPECT_TRUE(same_bits(resid, sum));
        EXPECT_TRUE(same_bits(fused, y));
      }
  expect_same_bits([](Backend& backend) {
    const Random x({300, 257}, 1), weight({257}, 2);
    Random y({300, 257}, 3);
    backend.rms_norm(y, x, weight, 1e-6f);
    return y;
  });
}

TEST_P(RowOps, Rope) {
  for (std::int64_t T : kSizes)
    for (std::int64_t E : {2, 16, 66, 130})
      for (std::int64_t half : {E / 2, E / 4}) {
        if (half == 0) continue;
        const Random x({T, 3, E}, 1, Slab::yes), y({T, 3, E}, 2, Slab::yes), cos({9, half}, 3),
            sin({9, half}, 4);
        std::vector<std::int32_t> positions;
        for (std::int64_t t = 0; t < T; ++t) positions.push_back(static_cast<std::int32_t>(t * 5 % 9));
        const RopeTable table{cos, sin};
        const auto expected =
            oracle::rope(values(x), positions, values(cos), values(sin), size(T), 3, size(E), size(half));
        backend_.rope(y, x, positions, table);
        EXPECT_LT(oracle::relative_error(values(y), expected), 2e-7);
        backend_.rope(x, x, positions, table);  // in place
        EXPECT_TRUE(same_bits(x, y));
      }
  const Random x({2, 1, 4}, 1), cos({3, 2}, 2), wide({3, 3}, 2);
  const std::vector<std::int32_t> beyond{0, 3}, few{0}, good{0, 2};
  EXPECT_THROW(backend_.rope(x, x, beyond, {cos, cos}), Error);
  EXPECT_THROW(backend_.rope(x, x, few, {cos, cos}), Error);
  EXPECT_THROW(backend_.rope(x, x, good, {wide, wide}), Error);
}

TEST_P(RowOps, SiluMul) {
  for (std::int64_t T : kSizes)
    for (std::int64_t F : kSizes) {
      const Random gate({T, F}, 1, Slab::yes, 5), up({T, F}, 2, Slab::yes), y({T, F}, 3);
      backend_.silu_mul(y, gate, up);
      EXPECT_LT(oracle::relative_error(values(y), oracle::silu_mul(values(gate), values(up))), 2e-7);
    }
  // Each value alone, far into both tails: relative to itself wherever the answer is a normal number.
  const Random gate({1, 20001}, 1), up({1, 20001}, 2), y({1, 20001}, 3);
  for (std::int64_t i = 0; i < 20001; ++i) {
    gate.view.f32()[i] = static_cast<float>(i - 10000) * (i % 2 ? 1.0f : 0.01f);
    up.view.f32()[i] = 1;
  }
  backend_.silu_mul(y, gate, up);
  const auto expected = oracle::silu_mul(values(gate), values(up));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto found = static_cast<double>(y.view.f32()[i]);
    ASSERT_LE(std::abs(found - expected[i]), std::max(4e-7 * std::abs(expected[i]), 1e-37))
        << gate.view.f32()[i];
  }
  expect_same_bits([](Backend& backend) {
    const Random a({100, 333}, 1), b({100, 333}, 2);
    Random out({100, 333}, 3);
    backend.silu_mul(out, a, b);
    return out;
  });
}

// softmax of [x, 0] rows shows exp itself: exp(x) / (1 + exp(x)).
TEST_P(RowOps, SoftmaxAndItsExp) {
  for (std::int64_t S : kSizes) {
    const Random x({33, 2, S}, 1, Slab::yes, 10), y({33, 2, S}, 2);
    backend_.softmax(y, x);
    EXPECT_LT(oracle::relative_error(values(y), oracle::softmax(values(x), size(S))), 3e-7);
  }
  const Random x({2000, 1, 2}, 1), y({2000, 1, 2}, 2);
  for (std::int64_t t = 0; t < 2000; ++t) {
    x.view.row(t)[0] = -static_cast<float>(t) * 0.0431f;
    x.view.row(t)[1] = 0;
  }
  backend_.softmax(y, x);
  for (std::int64_t t = 0; t < 2000; ++t) {
    const double e = std::exp(static_cast<double>(x.view.row(t)[0])), expected = e / (1 + e);
    ASSERT_NEAR(static_cast<double>(y.view.row(t)[0]) / expected, 1, 2.5e-7) << x.view.row(t)[0];
  }
  const float infinity = std::numeric_limits<float>::infinity();
  x.view.row(0)[0] = -infinity;
  backend_.softmax(y, x);
  EXPECT_EQ(y.view.row(0)[0], 0.0f);
  EXPECT_EQ(y.view.row(0)[1], 1.0f);
}

TEST_P(RowOps, EmbedReadsRowsOfAnyType) {
  const Random table({50, 33}, 1);
  const auto half = make_tensor(DType::bf16, {50, 33});
  backend_.cast(half.view, table);
  const std::vector<std::int32_t> ids{49, 0, 7, 7};
  const Random out({4, 33}, 2, Slab::yes);
  backend_.embed(out, table, ids);
  for (std::int64_t i = 0; i < 4; ++i)
    EXPECT_TRUE(same_bits(out.view.slice_rows(i, 1), table.view.slice_rows(ids[size(i)], 1)));
  backend_.embed(out, half.view, ids);
  for (std::int64_t i = 0; i < 4; ++i)
    for (std::int64_t j = 0; j < 33; ++j)
      EXPECT_EQ(out.view.row(i)[j], round_to_bf16(table.view.row(ids[size(i)])[j]));
  const std::vector<std::int32_t> beyond{0, 1, 2, 50}, negative{0, 1, 2, -1};
  EXPECT_THROW(backend_.embed(out, table, beyond), Error);
  EXPECT_THROW(backend_.embed(out, table, negative), Error);
}

TEST_P(RowOps, Edits) {
  const std::vector<std::int32_t> rows{6, 0, 3};
  for (std::int64_t D : kSizes) {
    const Random before({8, D}, 1, Slab::yes), gathered({3, D}, 2), many({3, D}, 3), one({1, D}, 4);
    backend_.gather_rows(gathered, before, rows);
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_TRUE(same_bits(gathered.view.slice_rows(static_cast<std::int64_t>(i), 1),
                            before.view.slice_rows(rows[i], 1)));

    for (const Random* given : {&many, &one}) {
      const Random x({8, D}, 1, Slab::yes);
      const auto value = [&](std::int64_t i) { return given->view.slice_rows(given == &one ? 0 : i, 1); };
      backend_.add_rows(x, rows, *given, -1.5f);
      for (std::int64_t i = 0; i < 3; ++i)
        for (std::int64_t d = 0; d < D; ++d)
          EXPECT_NEAR(x.view.row(rows[size(i)])[d],
                      before.view.row(rows[size(i)])[d] - 1.5f * value(i).row(0)[d], 1e-6);
      EXPECT_TRUE(same_bits(x.view.slice_rows(4, 2), before.view.slice_rows(4, 2)));
      x.view.row(6)[0] = std::numeric_limits<float>::quiet_NaN();  // replacing leaves nothing of it
      backend_.replace_rows(x, rows, *given);
      for (std::int64_t i = 0; i < 3; ++i)
        EXPECT_TRUE(same_bits(x.view.slice_rows(rows[size(i)], 1), value(i)));
      backend_.scale_rows(x, rows, 2.0f);
      for (std::int64_t d = 0; d < D; ++d) EXPECT_EQ(x.view.row(0)[d], 2 * value(1).row(0)[d]);
      EXPECT_TRUE(same_bits(x.view.slice_rows(1, 2), before.view.slice_rows(1, 2)));
    }

    const Random x({8, D}, 1, Slab::yes), basis({2, D}, 5, Slab::no, 0.1);
    backend_.project_out_rows(x, rows, basis);
    for (std::int32_t row : rows) {
      const auto expected =
          oracle::project_out(values(before.view.slice_rows(row, 1)), values(basis), 2, size(D));
      EXPECT_LT(oracle::relative_error(values(x.view.slice_rows(row, 1)), expected), 5e-7);
    }
    EXPECT_TRUE(same_bits(x.view.slice_rows(4, 2), before.view.slice_rows(4, 2)));
  }
  const Random x({8, 5}, 1), values_of_two({2, 5}, 2), basis({1, 4}, 3);
  const std::vector<std::int32_t> beyond{8}, twice{1, 1};
  EXPECT_THROW(backend_.scale_rows(x, beyond, 2), Error);
  EXPECT_THROW(backend_.scale_rows(x, twice, 2), Error);
  EXPECT_THROW(backend_.replace_rows(x, rows, values_of_two), Error);
  EXPECT_THROW(backend_.project_out_rows(x, rows, basis), Error);
}

// Every upper half of a float with lower halves around the rounding points.
TEST_P(RowOps, CastsRoundToNearestEven) {
  const std::uint32_t lower[] = {0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff};
  const auto x = make_tensor(DType::f32, {9, 65536});
  const auto bf = make_tensor(DType::bf16, {9, 65536}), half = make_tensor(DType::f16, {9, 65536});
  for (std::int64_t i = 0; i < 9; ++i)
    for (std::uint32_t upper = 0; upper < 65536; ++upper)
      x.view.row(i)[upper] = std::bit_cast<float>(upper << 16 | lower[i]);
  backend_.cast(bf.view, x.view);
  backend_.cast(half.view, x.view);
  int wrong_bf16 = 0, wrong_f16 = 0;
  for (std::int64_t i = 0; i < 9 * 65536; ++i) {
    const float value = x.view.f32()[i];
    wrong_bf16 += bf.view.as<std::uint16_t>()[i] != to_bf16(value).bits;
    wrong_f16 += half.view.as<std::uint16_t>()[i] != to_f16(value).bits;
  }
  EXPECT_EQ(wrong_bf16, 0);
  EXPECT_EQ(wrong_f16, 0);
  EXPECT_THROW(backend_.cast(make_tensor(DType::f16, {9, 3}).view, x.view), Error);
  EXPECT_THROW(backend_.cast(make_tensor(DType::i32, {9, 65536}).view, x.view), Error);
}

TEST_P(RowOps, NothingToDo) {
  const Tensor none(nullptr, DType::f32, {0, 8}), heads(nullptr, DType::f32, {0, 2, 4});
  const Random weight({8}, 1), table({3, 2}, 2), wide({4, 8}, 3);
  const std::vector<std::int32_t> starts{0};
  backend_.rms_norm(none, none, weight, 1e-5f);
  backend_.add(none, none, none);
  backend_.silu_mul(none, none, none);
  backend_.rope(heads, heads, {}, {table, table});
  backend_.attention(heads, heads, heads, heads, {starts}, {1});
  backend_.gather_rows(none, wide, {});
  backend_.embed(none, wide, {});
  backend_.cast(none, none);
}

TEST_P(RowOps, RefusesWrongShapes) {
  const Random x({3, 8}, 1), y({3, 8}, 1), other({3, 7}, 1), weight({8}, 1);
  EXPECT_THROW(backend_.rms_norm(y, x, other, 1e-5f), Error);
  EXPECT_THROW(backend_.rms_norm(other, x, weight, 1e-5f), Error);
  EXPECT_THROW(backend_.rms_scale(other, x, 1e-5f), Error);
  EXPECT_THROW(backend_.divide_rows(y, x, weight), Error);
  EXPECT_THROW(backend_.multiply_columns(y, x, other), Error);
  EXPECT_THROW(backend_.add_rms_norm(x, y, other, weight, 1e-5f), Error);
  EXPECT_THROW(backend_.add(y, x, other), Error);
  EXPECT_THROW(backend_.silu_mul(y, other, x), Error);
  EXPECT_THROW(backend_.dequantise(other, x), Error);
  Tensor overlapping = x.view;
  overlapping.row_stride = 7;
  EXPECT_THROW(backend_.add(overlapping, x, x), Error);
  Tensor half = x.view;
  half.dtype = DType::bf16;
  EXPECT_THROW(backend_.add(y, half, x), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, RowOps,
                         testing::Values(CpuPath::generic, CpuPath::avx2, CpuPath::avx512,
                                         CpuPath::avx512_bf16),
                         [](const auto& test) { return std::string(name(test.param)); });

}  // namespace
}  // namespace sonde::test
