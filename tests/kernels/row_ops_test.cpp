// Norms, rotations, gates, edits and casts: against float64, fused against steps, threads and paths bit for
// bit.
#include <functional>

#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

const std::int64_t kSizes[] = {1, 7, 33, 257};

const std::pair<Activation, double (*)(double)> kActivations[] = {
    {Activation::silu, oracle::silu},
    {Activation::gelu, oracle::gelu},
    {Activation::gelu_tanh, oracle::gelu_tanh},
    {Activation::relu, oracle::relu},
    {Activation::relu_squared, oracle::relu_squared},
};

class RowOps : public OpTest {
 protected:
  // run(backend) gives a tensor: the same bits for any number of threads and on the generic path.
  void expect_same_bits(const std::function<Random(Backend&)>& run) {
    const Random first = run(backend_);
    for (int threads : {1, 2, 3}) {
      const Threads scope(threads);
      EXPECT_TRUE(same_bits(first, run(backend_))) << threads << " threads";
    }
    if (!on_cpu()) return;
    cpu::CpuBackend generic(CpuPath::generic);
    EXPECT_TRUE(same_bits(first, run(generic))) << "generic path";
  }
};

TEST_P(RowOps, NormsWholeFusedAndInSteps) {
  for (NormKind kind : {NormKind::rms, NormKind::layer})
    for (bool biased : {false, true})
      for (std::int64_t T : kSizes)
        for (std::int64_t D : kSizes)
          for (Slab slab : {Slab::no, Slab::yes}) {
            const Random x({T, D}, 1, slab), delta({T, D}, 2, slab), weight({D}, 3), b({D}, 9);
            const Random y({T, D}, 4, slab), resid({T, D}, 1, slab), sum({T, D}, 5), fused({T, D}, 6),
                steps({T, D}, 7, slab), scale({T, 1}, 8);
            const Tensor bias = biased ? b.view : Tensor();
            for (std::int64_t t = 0; t < T; ++t)  // a mean that is not small
              for (std::int64_t d = 0; d < D; ++d) x.view.row(t)[d] += 0.7f, resid.view.row(t)[d] += 0.7f;
            const auto eps = static_cast<double>(1e-3f);
            const bool centred = kind == NormKind::layer;
            const auto expected =
                oracle::norm(values(x), values(weight), biased ? values(b) : oracle::Values(), size(T),
                             size(D), eps, centred);
            backend_.norm(kind, y, x, weight, bias, 1e-3f);
            EXPECT_LT(oracle::relative_error(values(y), expected), 3e-7) << T << " x " << D;
            backend_.norm_scale(kind, scale, x, 1e-3f);
            EXPECT_LT(oracle::relative_error(values(scale),
                                             oracle::norm_scale(values(x), size(T), size(D), eps, centred)),
                      3e-7);
            backend_.normalize(kind, steps, x, scale);
            backend_.scale_columns(steps, steps, weight, bias);
            EXPECT_TRUE(same_bits(y, steps));
            backend_.add(sum, x, delta);
            EXPECT_LT(oracle::relative_error(values(sum), oracle::add(values(x), values(delta))), 1e-7);
            backend_.norm(kind, y, sum, weight, bias, 1e-3f);
            backend_.add_norm(kind, resid, fused, delta, weight, bias, 1e-3f);
            EXPECT_TRUE(same_bits(resid, sum));
            EXPECT_TRUE(same_bits(fused, y));
            backend_.norm(kind, sum, sum, weight, bias, 1e-3f);  // in place
            EXPECT_TRUE(same_bits(sum, y));
          }
  for (NormKind kind : {NormKind::rms, NormKind::layer})
    expect_same_bits([kind](Backend& backend) {
      const Random x({300, 257}, 1), weight({257}, 2);
      Random y({300, 257}, 3);
      backend.norm(kind, y, x, weight, {}, 1e-6f);
      return y;
    });
}

TEST_P(RowOps, NormOfEachHead) {
  for (NormKind kind : {NormKind::rms, NormKind::layer})
    for (std::int64_t E : {1, 7, 64, 129})
      for (std::int64_t rows : {1, 3}) {  // one weight row for all heads, or one per head
        const Random x({5, 3, E}, 1, Slab::yes), y({5, 3, E}, 2, Slab::yes), weight({rows, E}, 3);
        const auto all = values(x), w = values(weight);
        oracle::Values expected;
        for (std::size_t i = 0; i < 15; ++i) {
          const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * size(E));
          const auto row = w.begin() + static_cast<std::ptrdiff_t>(rows == 1 ? 0 : i % 3 * size(E));
          const auto head = oracle::norm({begin, begin + E}, {row, row + E}, {}, 1, size(E),
                                         static_cast<double>(1e-3f), kind == NormKind::layer);
          expected.insert(expected.end(), head.begin(), head.end());
        }
        backend_.norm_heads(kind, y, x, weight, 1e-3f);
        EXPECT_LT(oracle::relative_error(values(y), expected), 3e-7);
        backend_.norm_heads(kind, x, x, weight, 1e-3f);
        EXPECT_TRUE(same_bits(x, y));
      }
}

TEST_P(RowOps, ScaleZeroAndSoftcap) {
  for (std::int64_t N : kSizes) {
    const Random x({5, N}, 1, Slab::yes, 20), y({5, N}, 2, Slab::yes);
    backend_.scale(y, x, 0.37f);
    auto expected = values(x);
    for (double& value : expected) value *= static_cast<double>(0.37f);
    EXPECT_LT(oracle::relative_error(values(y), expected), 1e-7);
    backend_.softcap(y, x, 30.0f);
    expected = values(x);
    for (double& value : expected) value = 30 * std::tanh(value / 30);
    EXPECT_LT(oracle::relative_error(values(y), expected), 3e-7);
    backend_.zero(y);
    for (double value : values(y)) ASSERT_EQ(value, 0);
  }
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
        for (RopePairs pairs : {RopePairs::neighbours, RopePairs::halves}) {
          const auto expected = oracle::rope(values(x), positions, values(cos), values(sin), size(T), 3,
                                             size(E), size(half), pairs == RopePairs::neighbours);
          backend_.rope(y, x, positions, table, pairs);
          EXPECT_LT(oracle::relative_error(values(y), expected), 2e-7);
        }
        backend_.rope(x, x, positions, table);  // in place
        EXPECT_TRUE(same_bits(x, y));
      }
  const Random x({2, 1, 4}, 1), cos({3, 2}, 2), wide({3, 3}, 2);
  const std::vector<std::int32_t> beyond{0, 3}, few{0}, good{0, 2};
  EXPECT_THROW(backend_.rope(x, x, beyond, {cos, cos}), Error);
  EXPECT_THROW(backend_.rope(x, x, few, {cos, cos}), Error);
  EXPECT_THROW(backend_.rope(x, x, good, {wide, wide}), Error);
}

// Norms of q and k and their rotation in one pass: the bits of one after the other.
TEST_P(RowOps, QkNormRope) {
  for (std::int64_t E : {2, 16, 66, 128, 130, 260})
    for (std::int64_t half : {E / 2, E / 4})
      for (std::int64_t weights : {0, 1, 3})  // none, one row for all heads, one per head
        for (NormKind kind : {NormKind::rms, NormKind::layer})
          for (RopePairs pairs : {RopePairs::neighbours, RopePairs::halves})
            for (Slab slab : {Slab::no, Slab::yes}) {
              if (half == 0) continue;
              const std::int64_t T = 5, K = weights == 3 ? 3 : 2;
              const Random cos({9, half}, 3), sin({9, half}, 4), w({3, E}, 5), other({3, E}, 6);
              const RopeTable table{cos, sin};
              std::vector<std::int32_t> positions;
              for (std::int64_t t = 0; t < T; ++t) positions.push_back(static_cast<std::int32_t>(t * 5 % 9));
              const Tensor q_weight = weights == 0 ? Tensor() : w.view.slice_rows(0, weights);
              const Tensor k_weight = weights == 0 ? Tensor() : other.view.slice_rows(0, weights);
              const Random q({T, 3, E}, 1, slab), k({T, K, E}, 2), q_fused({T, 3, E}, 1, slab),
                  k_fused({T, K, E}, 2);
              if (weights > 0) backend_.norm_heads(kind, q, q, q_weight, 1e-3f);
              if (weights > 0) backend_.norm_heads(kind, k, k, k_weight, 1e-3f);
              backend_.rope(q, q, positions, table, pairs);
              backend_.rope(k, k, positions, table, pairs);
              backend_.qk_norm_rope(kind, q_fused, k_fused, q_weight, k_weight, 1e-3f, positions, table,
                                    pairs);
              EXPECT_TRUE(same_bits(q, q_fused)) << E << " " << half << " " << weights;
              EXPECT_TRUE(same_bits(k, k_fused)) << E << " " << half << " " << weights;
            }
  const Random q({2, 3, 4}, 1), k({2, 1, 4}, 1), wide({2, 1, 6}, 1), cos({3, 2}, 2), weight({2, 4}, 3);
  const std::vector<std::int32_t> beyond{0, 3}, good{0, 2};
  const auto run = [&](Tensor of_k, Tensor of_weight, const std::vector<std::int32_t>& positions) {
    backend_.qk_norm_rope(NormKind::rms, q, of_k, of_weight, {}, 1e-3f, positions, {cos, cos});
  };
  EXPECT_THROW(run(k, {}, beyond), Error);
  EXPECT_THROW(run(wide, {}, good), Error);
  EXPECT_THROW(run(k, weight, good), Error);  // 2 rows for 3 heads
}

TEST_P(RowOps, ActivationsAndGates) {
  for (const auto& [f, formula] : kActivations) {
    for (std::int64_t T : kSizes)
      for (std::int64_t F : kSizes) {
        // One value may lie in a tail, where exp turns the rounding of its argument into that of its result.
        const double limit = T * F == 1 ? 1e-6 : 2e-7;
        const Random gate({T, F}, 1, Slab::yes, 5), up({T, F}, 2, Slab::yes), y({T, F}, 3);
        backend_.activate_mul(f, y, gate, up);
        auto expected = values(gate);
        const auto factor = values(up);
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = formula(expected[i]) * factor[i];
        EXPECT_LT(oracle::relative_error(values(y), expected), limit);
        backend_.activate(f, y, gate);
        expected = values(gate);
        for (double& value : expected) value = formula(value);
        EXPECT_LT(oracle::relative_error(values(y), expected), limit);
        backend_.activate(f, gate, gate);
        EXPECT_TRUE(same_bits(gate, y));
      }
    expect_same_bits([&f = f](Backend& backend) {
      const Random a({100, 333}, 1), b({100, 333}, 2);
      Random out({100, 333}, 3);
      backend.activate_mul(f, out, a, b);
      return out;
    });
  }
}

// Each value alone, far into both tails. Where the answer is tiny beside its own input, the error is counted
// in units of the input: 1 + erf and 1 + tanh cancel there in every float implementation.
TEST_P(RowOps, ActivationsInTheirTails) {
  const Random x({1, 20001}, 1), y({1, 20001}, 3);
  for (std::int64_t i = 0; i < 20001; ++i)
    x.view.f32()[i] = static_cast<float>(i - 10000) * (i % 2 ? 1.0f : 0.01f);
  for (const auto& [f, formula] : kActivations) {
    backend_.activate(f, y, x);
    for (std::int64_t i = 0; i < 20001; ++i) {
      const auto in = static_cast<double>(x.view.f32()[i]), found = static_cast<double>(y.view.f32()[i]);
      const double expected = formula(in);
      const bool cancels = f == Activation::gelu || f == Activation::gelu_tanh;
      const double limit = cancels ? 2e-7 * std::abs(in) : 4e-7 * std::abs(expected);
      ASSERT_LE(std::abs(found - expected), std::max(limit, 1e-37)) << in;
    }
  }
}

// The k largest probabilities in order, of equals the lower index; weights sum to 1 when renormalised.
TEST_P(RowOps, Route) {
  for (std::int64_t X : {1, 7, 33, 130})
    for (std::int64_t k : {std::int64_t{1}, std::min<std::int64_t>(X, 2), std::min<std::int64_t>(X, 8)})
      for (Renormalise renormalise : {Renormalise::no, Renormalise::yes}) {
        const Random logits({40, X}, 1, Slab::yes, 2), weights({40, k}, 2), indices({40, k}, 3);
        if (X > 3) logits.view.row(5)[3] = logits.view.row(5)[1] = 50;  // a tie
        backend_.route(weights, indices, logits, renormalise);
        const auto expected =
            oracle::route(values(logits), 40, size(X), size(k), renormalise == Renormalise::yes);
        EXPECT_EQ(values(indices), expected.indices);
        EXPECT_LT(oracle::relative_error(values(weights), expected.weights), 4e-7);
      }
}

TEST_P(RowOps, ScatterAddRows) {
  const std::vector<std::int32_t> rows{4, 0, 2};
  const std::vector<float> weights{0.5f, -1, 3};
  for (std::int64_t D : kSizes) {
    const Random before({5, D}, 1, Slab::yes), y({5, D}, 1, Slab::yes), x({3, D}, 2, Slab::yes);
    backend_.scatter_add_rows(y, rows, x, weights);
    auto expected = values(before);
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t d = 0; d < size(D); ++d)
        expected[size(rows[i]) * size(D) + d] +=
            static_cast<double>(weights[i]) *
            static_cast<double>(x.view.row(static_cast<std::int64_t>(i))[d]);
    EXPECT_LT(oracle::relative_error(values(y), expected), 2e-7);
  }
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
  const std::vector<std::int32_t> columns{4, 1}, wide{5};
  Random filled({8, 5}, 1);
  backend_.fill_columns(filled, rows, columns, -7.0f);
  backend_.clamp_rows(x, rows, -0.25f, 0.5f);
  for (std::int64_t i = 0; i < 8; ++i)
    for (std::int64_t d = 0; d < 5; ++d) {
      const float was = Random({8, 5}, 1).view.row(i)[d];
      const bool chosen = i == 6 || i == 0 || i == 3;
      EXPECT_EQ(x.view.row(i)[d], chosen ? std::clamp(was, -0.25f, 0.5f) : was);
      EXPECT_EQ(filled.view.row(i)[d], chosen && (d == 4 || d == 1) ? -7.0f : was);
    }
  EXPECT_THROW(backend_.fill_columns(x, rows, wide, 0), Error);
  EXPECT_THROW(backend_.clamp_rows(x, rows, 1, -1), Error);
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
  backend_.norm(NormKind::rms, none, none, weight, {}, 1e-5f);
  backend_.add(none, none, none);
  backend_.activate_mul(Activation::silu, none, none, none);
  backend_.rope(heads, heads, {}, {table, table});
  backend_.attention(heads, heads, heads, heads, {starts}, {}, {1});
  backend_.gather_rows(none, wide, {});
  backend_.embed(none, wide, {});
  backend_.cast(none, none);
}

TEST_P(RowOps, RefusesWrongShapes) {
  const Random x({3, 8}, 1), y({3, 8}, 1), other({3, 7}, 1), weight({8}, 1);
  const NormKind rms = NormKind::rms;
  EXPECT_THROW(backend_.norm(rms, y, x, other, {}, 1e-5f), Error);
  EXPECT_THROW(backend_.norm(rms, other, x, weight, {}, 1e-5f), Error);
  EXPECT_THROW(backend_.norm(rms, y, x, weight, other, 1e-5f), Error);
  EXPECT_THROW(backend_.norm_scale(rms, other, x, 1e-5f), Error);
  EXPECT_THROW(backend_.normalize(rms, y, x, weight), Error);
  EXPECT_THROW(backend_.scale_columns(y, x, other, {}), Error);
  EXPECT_THROW(backend_.add_norm(rms, x, y, other, weight, {}, 1e-5f), Error);
  EXPECT_THROW(backend_.add(y, x, other), Error);
  EXPECT_THROW(backend_.activate_mul(Activation::silu, y, other, x), Error);
  EXPECT_THROW(backend_.dequantise(other, x), Error);
  Tensor overlapping = x.view;
  overlapping.row_stride = 7;
  EXPECT_THROW(backend_.add(overlapping, x, x), Error);
  Tensor half = x.view;
  half.dtype = DType::bf16;
  EXPECT_THROW(backend_.add(y, half, x), Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, RowOps, testing::ValuesIn(kOpDevices),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sonde::test
