#include "runtime/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

namespace sonde {
namespace {

struct Numbers {
  explicit Numbers(std::size_t n) : values(n) { std::iota(values.begin(), values.end(), 0.0f); }
  std::vector<float> values;
};

TEST(Tensor, ShapeCountAndRows) {
  Numbers n(24);
  const Tensor t(n.values.data(), DType::f32, {2, 3, 4});
  EXPECT_EQ(t.rows(), 2);
  EXPECT_EQ(t.width(), 12);
  EXPECT_EQ(t.count(), 24);
  EXPECT_TRUE(t.contiguous());
  EXPECT_EQ(t.row(1)[0], 12.0f);
  EXPECT_EQ(t.describe(), "f32 [2, 3, 4]");
  EXPECT_TRUE(Tensor().empty());
  EXPECT_THROW(Tensor(n.values.data(), DType::f32, {1, 1, 1, 1, 1}), std::exception);
}

TEST(Tensor, SlicesOfRowsAndColumns) {
  Numbers n(24);
  const Tensor t(n.values.data(), DType::f32, {4, 6});
  const Tensor rows = t.slice_rows(1, 2);
  EXPECT_EQ(rows.rows(), 2);
  EXPECT_EQ(rows.row(0)[0], 6.0f);
  EXPECT_TRUE(rows.contiguous());

  const Tensor columns = t.slice_columns(2, 4);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(columns.width(), 4);
  EXPECT_EQ(columns.row(3)[1], 21.0f);
  EXPECT_EQ(columns.slice_rows(2, 1).row(0)[0], 14.0f);
  const Tensor heads = columns.reshape_row({2, 2});
  EXPECT_EQ(heads.describe(), "f32 [4, 2, 2]");
  EXPECT_EQ(heads.row(1)[3], 11.0f);

  EXPECT_TRUE(t.slice_columns(2, 4).slice_rows(0, 1).contiguous());  // one row always is
  EXPECT_EQ(t.slice_rows(4, 0).rows(), 0);
  EXPECT_THROW(t.slice_rows(3, 2), std::exception);
  EXPECT_THROW(t.slice_rows(-1, 2), std::exception);
  EXPECT_THROW(t.slice_columns(3, 4), std::exception);
  EXPECT_THROW(t.reshape_row({5}), std::exception);
  EXPECT_THROW(heads.slice_columns(0, 1), std::exception);
}

TEST(Tensor, RowsOfBlockFormatsAreWholeBlocks) {
  std::vector<std::byte> bytes(3 * 40);
  const Tensor t(bytes.data(), DType::q4_1, {3, 64});
  EXPECT_EQ(t.slice_rows(2, 1).data - t.data, 80);
}

TEST(Buffer, IsAlignedAndMoves) {
  Buffer a(100);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data()) % 64, 0u);
  EXPECT_EQ(a.bytes(), 100);
  std::byte* memory = a.data();
  Buffer b(std::move(a));
  EXPECT_EQ(b.data(), memory);
  Buffer c;
  c = std::move(b);
  EXPECT_EQ(c.data(), memory);
  std::swap(c, a);
  EXPECT_EQ(a.data(), memory);
  EXPECT_EQ(Buffer(0).data(), nullptr);
  EXPECT_THROW(Buffer(-1), std::exception);
  EXPECT_THROW(Buffer(std::int64_t{1} << 60), Error);
}

TEST(Buffer, DebugBuildsFillItWithNaN) {
#ifdef NDEBUG
  GTEST_SKIP() << "this is a release build";
#else
  const OwnedTensor t = make_tensor(DType::f32, {3});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(t.view.f32()[i]));
#endif
}

TEST(MakeTensor, RefusesSizesThatOverflow) {
  const OwnedTensor t = make_tensor(DType::bf16, {3, 5});
  EXPECT_EQ(t.buffer.bytes(), 30);
  EXPECT_EQ(t.view.describe(), "bf16 [3, 5]");
  const std::int64_t big = std::int64_t{1} << 33;
  EXPECT_THROW(make_tensor(DType::f32, {big, big}), Error);
  EXPECT_THROW(make_tensor(DType::f32, {std::int64_t{1} << 62}), Error);
  EXPECT_THROW(make_tensor(DType::f32, {-1, -1}), Error);
}

}  // namespace
}  // namespace sonde
