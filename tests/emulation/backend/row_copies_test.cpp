// Captures beside the ops: what is copied is what the rows were when they were asked for, however late the
// streams run.
#include <gtest/gtest.h>

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
      const Tensor got = copies->take();
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

}  // namespace
}  // namespace sonde
