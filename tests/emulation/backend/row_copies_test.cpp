// Captures beside the ops: what is copied is what the rows were when they were asked for, however late the
// streams run.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>

#include "kernels/devices.h"
#include "kernels/emulation/config.h"

namespace sonde {
namespace {

TEST(RowCopies, AreOfTheirPlaceInTheStream) {
  const std::int64_t rows = 7, width = 33;
  const std::vector<std::int32_t> chosen = {0, 2, 3, 6};
  const auto before = emulation::config().streams;
  for (const auto streams :
       {emulation::Streams::lazy, emulation::Streams::random, emulation::Streams::eager}) {
    emulation::config().streams = streams;
    const auto backend = make_emulated_backend();
    const auto copies = backend->make_row_copies();
    Buffer host(rows * width * 4), memory;
    const Tensor values = host.tensor(DType::f32, {rows, width});
    for (std::int64_t i = 0; i < rows * width; ++i) values.f32()[i] = static_cast<float>(i);
    const Tensor x = backend->on_device(values, memory);
    std::int64_t taken = 0;
    const auto take = [&] {
      const Tensor got = copies->take().rows;
      ASSERT_EQ(got.rows(), static_cast<std::int64_t>(chosen.size()));
      for (std::int64_t r = 0; r < got.rows(); ++r)
        for (std::int64_t c = 0; c < width; ++c)
          ASSERT_EQ(got.row(r)[c],
                    static_cast<float>(taken + 1) * values.row(chosen[static_cast<std::size_t>(r)])[c])
              << "copy " << taken << ", row " << r << ", column " << c;
      ++taken;
    };
    Buffer sum_memory = backend->allocate(rows * width * 4);
    const Tensor sum = sum_memory.tensor(DType::f32, {rows, width});
    backend->zero(sum);
    for (int i = 0; i < 6; ++i) {  // x, 2 x, 3 x, ..: written again while the one before is on its way
      backend->add(sum, sum, x);
      if (i >= static_cast<int>(RowCopies::kMost)) take();
      copies->copy(sum, chosen);
    }
    backend->zero(sum);
    take();
    take();
    EXPECT_THROW(copies->take(), Error);
  }
  emulation::config().streams = before;
}

// Two sites in turn, each in several pieces of a batch, as scores and patterns come.
TEST(RowCopies, SumsGoOnWithinASeries) {
  const std::int64_t rows = 6, width = 40;
  const auto before = emulation::config().streams;
  for (const auto streams :
       {emulation::Streams::lazy, emulation::Streams::random, emulation::Streams::eager}) {
    emulation::config().streams = streams;
    const auto backend = make_emulated_backend();
    const auto copies = backend->make_row_copies();
    Buffer host(rows * width * 4), memory;
    const Tensor values = host.tensor(DType::f32, {rows, width});
    for (std::int64_t i = 0; i < rows * width; ++i) values.f32()[i] = static_cast<float>(i % 17) - 7.25f;
    const Tensor x = backend->on_device(values, memory);
    const PackFormat format{DType::bf16, value_rule(DType::bf16, false), 0};
    const std::vector<std::int32_t> pieces[] = {{0, 4}, {2, 3, 5}, {1}};
    const std::int64_t length = PackedSums::length(width);
    std::vector<double> expected[2];
    std::deque<std::pair<int, int>> on_the_way;  // piece, series
    const auto take = [&] {
      const auto [piece, series] = on_the_way.front();
      on_the_way.pop_front();
      const PackedRows got = copies->take();
      auto& sums = expected[series];
      if (piece == 0) sums.assign(static_cast<std::size_t>(length), 0.0);
      const auto n = static_cast<std::int64_t>(pieces[piece].size());
      const OwnedTensor y = make_tensor(DType::bf16, {n, width});
      pack_rows(format, y.view, {sums.data(), width}, values, pieces[piece]);
      ASSERT_EQ(std::memcmp(got.rows.data, y.view.data, static_cast<std::size_t>(n * width * 2)), 0);
      ASSERT_EQ(std::memcmp(got.sums.data, sums.data(), static_cast<std::size_t>(length * 8)), 0)
          << "series " << series << ", piece " << piece;
    };
    for (int batch = 0; batch < 2; ++batch)
      for (int piece = 0; piece < 3; ++piece)
        for (int series = 0; series < 2; ++series) {
          if (on_the_way.size() == RowCopies::kMost) take();
          copies->pack(x, pieces[piece], format, static_cast<std::size_t>(series),
                       piece == 0 ? RowCopies::First::yes : RowCopies::First::no);
          on_the_way.emplace_back(piece, series);
        }
    while (!on_the_way.empty()) take();
    EXPECT_THROW(copies->pack(x, pieces[0], format, 7, RowCopies::First::no), Error);
  }
  emulation::config().streams = before;
}

}  // namespace
}  // namespace sonde
