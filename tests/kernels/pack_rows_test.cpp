// Captured rows as a store keeps them: to the bit, whatever the backend.
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/op_test.h"

namespace sonde::test {
namespace {

class PackRows : public OpTest {};

constexpr float kInf = std::numeric_limits<float>::infinity();

// The sums as runtime/packed_rows.h promises them: a column's rows in order.
struct Reference {
  explicit Reference(std::int64_t n) : sums(size(PackedSums::length(n)), 0.0), columns(n) {}
  void add_columns(const Tensor& x, const std::vector<std::int32_t>& rows) {
    for (std::int64_t c = 0; c < columns; ++c)
      for (const std::int32_t r : rows) {
        const double value = x.row(r)[c];
        sums[size(c)] += value;
        sums[size(columns + c)] += value * value;
        double& largest = sums[size(2 * columns + c)];
        largest = std::max(largest, std::abs(value));
      }
    sums.back() += static_cast<double>(rows.size());
  }
  // One column: of each head key j in lane j % 8, the lanes of a row in order, then the rows.
  void add_pooled(const Tensor& x, const std::vector<std::int32_t>& rows, std::int64_t missing) {
    for (const std::int32_t r : rows) {
      double sum[8] = {}, squares[8] = {}, row_sum = 0, row_squares = 0;
      std::int64_t count = missing;
      for (std::int64_t h = 0; h < x.dim(1); ++h)
        for (std::int64_t j = 0; j < x.dim(2); ++j) {
          const double value = x.row(r)[h * x.dim(2) + j];
          if (std::isinf(value)) continue;
          sum[j % 8] += value;
          squares[j % 8] += value * value;
          sums[2] = std::max(sums[2], std::abs(value));
          ++count;
        }
      for (int lane = 0; lane < 8; ++lane) row_sum += sum[lane], row_squares += squares[lane];
      sums[0] += row_sum;
      sums[1] += row_squares;
      sums[4] += static_cast<double>(count);
    }
  }
  std::vector<double> sums;
  std::int64_t columns;
};

struct Packed {
  Packed(DType dtype, std::int64_t rows, std::int64_t width, std::int64_t columns)
      : y(make_tensor(dtype, {rows, width})), sums(make_tensor(DType::f64, {PackedSums::length(columns)})) {}
  PackedSums view(std::int64_t columns) const { return {sums.view.as<double>(), columns}; }
  OwnedTensor y, sums;
};

void expect_cast(const Tensor& y, const Tensor& x, const std::vector<std::int32_t>& rows) {
  int wrong = 0;
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::int64_t c = 0; c < x.width(); ++c) {
      const float value = x.row(rows[r])[c];
      const std::int64_t at = static_cast<std::int64_t>(r) * x.width() + c;
      if (y.dtype == DType::f32)
        wrong += std::bit_cast<std::uint32_t>(y.f32()[at]) != std::bit_cast<std::uint32_t>(value);
      else
        wrong +=
            y.as<std::uint16_t>()[at] != (y.dtype == DType::bf16 ? to_bf16(value).bits : to_f16(value).bits);
    }
  EXPECT_EQ(wrong, 0) << y.describe() << " of " << x.describe();
}

void expect_sums(const Packed& found, const Reference& expected) {
  const PackedSums sums = found.view(expected.columns);
  for (std::int64_t i = 0; i < 3 * expected.columns; ++i)
    ASSERT_EQ(sums.data[i], expected.sums[size(i)]) << i << " of " << expected.columns << " columns";
  EXPECT_EQ(sums.count(), expected.sums.back());
  EXPECT_FALSE(sums.refused().has_value());
}

// Pairs that all but cancel, of magnitudes 2^-14 to 2^13: float64 sums in another order have other bits.
void make_hard_to_add(const Tensor& x) {
  for (std::int64_t r = 0; r < x.rows(); ++r)
    for (std::int64_t i = 0; i + 1 < x.width(); i += 2) {
      float* pair = x.row(r) + i;
      pair[0] = std::ldexp(pair[0], static_cast<int>((i / 2 * 11 + r) % 28) - 14);
      pair[1] = -pair[0] * (1 + 0x1p-18f);
    }
}

PackFormat format_of(DType dtype) { return {dtype, value_rule(dtype, false), 0}; }

TEST_P(PackRows, Columns) {
  const std::vector<std::int32_t> few = {6, 0, 3}, one = {4};
  std::vector<std::int32_t> many(205);
  std::iota(many.begin(), many.end(), 2);
  unsigned seed = 0;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const std::int64_t D : {1, 7, 32, 33, 64, 100, 257})
      for (const std::vector<std::int32_t>* rows :
           {&few, &one, static_cast<const std::vector<std::int32_t>*>(&many)}) {
        const Random x({210, D}, ++seed, D % 2 == 1 ? Slab::yes : Slab::no, 30);
        const Packed whole(dtype, static_cast<std::int64_t>(rows->size()), D, D);
        backend_.pack_rows(whole.y.view, whole.sums.view, x, *rows, format_of(dtype));
        expect_cast(whole.y.view, x, *rows);
        Reference expected(D);
        expected.add_columns(x, *rows);
        expect_sums(whole, expected);
        // Further rows on top, in place and from elsewhere.
        const Packed next(dtype, 3, D, D);
        expected.add_columns(x, few);
        backend_.pack_rows(next.y.view, next.sums.view, x, few, format_of(dtype), whole.sums.view);
        expect_sums(next, expected);
        expect_cast(next.y.view, x, few);
        expected.add_columns(x, few);
        backend_.pack_rows(next.y.view, next.sums.view, x, few, format_of(dtype), next.sums.view);
        expect_sums(next, expected);
      }
}

TEST_P(PackRows, Pooled) {
  const std::vector<std::int32_t> all = {0, 1, 2, 3, 4, 5, 6}, some = {5, 1};
  unsigned seed = 100;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const std::int64_t keys : {1, 7, 8, 13, 64, 301})
      for (const bool scores : {false, true}) {
        const std::int64_t H = 3, width = H * keys;
        const Random x({7, H, keys}, ++seed);
        make_hard_to_add(x);
        if (scores)
          for (std::int64_t r = 0; r < 7; ++r)
            for (std::int64_t h = 0; h < H; ++h)
              for (std::int64_t j = r + 1; j < keys; ++j) x.view.row(r)[h * keys + j] = -kInf;
        const PackFormat format{dtype, value_rule(dtype, scores), width + 6};
        const std::int64_t missing = scores ? 0 : 6;
        const Packed whole(dtype, 7, width, 1), next(dtype, 2, width, 1);
        Reference expected(1);
        expected.add_pooled(x, all, missing);
        backend_.pack_rows(whole.y.view, whole.sums.view, x, all, format);
        expect_cast(whole.y.view, x, all);
        expect_sums(whole, expected);
        expected.add_pooled(x, some, missing);
        backend_.pack_rows(next.y.view, next.sums.view, x, some, format, whole.sums.view);
        expect_cast(next.y.view, x, some);
        expect_sums(next, expected);
      }
}

// The first one row by row, counted in the rows that are packed.
TEST_P(PackRows, ValuesThatAStoreRefuses) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  struct Case {
    DType dtype;
    float value;
  };
  for (const Case& c :
       {Case{DType::f32, nan}, Case{DType::f32, -nan}, Case{DType::f32, kInf}, Case{DType::f32, -kInf},
        Case{DType::bf16, 3.4e38f}, Case{DType::f16, -65520.0f}, Case{DType::f16, kInf}})
    for (const std::int64_t D : {5, 64, 130}) {
      const Random x({100, D}, 1);
      x.view.row(90)[0] = c.value * 2;
      x.view.row(80)[D - 1] = nan;
      x.view.row(80)[D - 2] = c.value;
      x.view.row(3)[1] = nan;  // not packed
      std::vector<std::int32_t> rows(95);
      std::iota(rows.begin(), rows.end(), 5);
      const Packed packed(c.dtype, 95, D, D);
      backend_.pack_rows(packed.y.view, packed.sums.view, x, rows, format_of(c.dtype));
      const auto found = packed.view(D).refused();
      ASSERT_TRUE(found.has_value()) << c.value << " in " << name(c.dtype);
      EXPECT_EQ(found->row, 75);
      EXPECT_EQ(std::bit_cast<std::uint32_t>(found->value), std::bit_cast<std::uint32_t>(c.value));
      // What is next to the limit is kept; the next rows have a say of their own.
      const std::vector<std::int32_t> good = {10, 11};
      x.view.row(10)[0] = c.dtype == DType::f16 ? 65519.0f : 3.3e38f;
      backend_.pack_rows(packed.y.view.slice_rows(0, 2), packed.sums.view, x, good, format_of(c.dtype));
      EXPECT_FALSE(packed.view(D).refused().has_value());
    }
  for (const bool scores : {false, true}) {
    const Random x({4, 2, 9}, 1);
    x.view.row(1)[0] = -kInf;
    x.view.row(2)[13] = nan;
    x.view.row(2)[12] = kInf;
    const std::vector<std::int32_t> rows = {0, 1, 2, 3};
    const PackFormat format{DType::bf16, value_rule(DType::bf16, scores), 18};
    const Packed packed(DType::bf16, 4, 18, 1);
    backend_.pack_rows(packed.y.view, packed.sums.view, x, rows, format);
    const auto found = packed.view(1).refused();
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->row, scores ? 2 : 1);
    EXPECT_EQ(found->value, scores ? kInf : -kInf);
  }
}

TEST_P(PackRows, NothingAndWrongShapes) {
  const Random x({4, 6}, 1), heads({4, 2, 3}, 1);
  const std::vector<std::int32_t> rows = {1, 2}, beyond = {4};
  const Packed packed(DType::bf16, 2, 6, 6), none(DType::bf16, 0, 6, 6);
  const PackFormat format = format_of(DType::bf16);
  backend_.pack_rows(none.y.view, none.sums.view, x, {}, format);
  EXPECT_EQ(none.view(6).count(), 0);
  EXPECT_EQ(none.view(6).row(1)[5], 0);
  EXPECT_FALSE(none.view(6).refused().has_value());
  const auto pack = [&](Tensor y, Tensor sums, Tensor from, const std::vector<std::int32_t>& r,
                        const PackFormat& f) { backend_.pack_rows(y, sums, from, r, f); };
  EXPECT_THROW(pack(packed.y.view, packed.sums.view, x, beyond, format), Error);
  EXPECT_THROW(pack(none.y.view, packed.sums.view, x, rows, format), Error);
  EXPECT_THROW(pack(packed.y.view, packed.sums.view, x, rows, format_of(DType::f16)), Error);
  EXPECT_THROW(pack(packed.y.view, Packed(DType::bf16, 2, 6, 5).sums.view, x, rows, format), Error);
  EXPECT_THROW(pack(packed.y.view, packed.sums.view, x, rows, {DType::bf16, format.rule, 6}), Error);
  EXPECT_THROW(
      pack(packed.y.view, Packed(DType::bf16, 2, 6, 1).sums.view, heads, rows, {DType::bf16, format.rule, 5}),
      Error);
}

INSTANTIATE_TEST_SUITE_P(Paths, PackRows, testing::ValuesIn(kOpDevices),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sonde::test
