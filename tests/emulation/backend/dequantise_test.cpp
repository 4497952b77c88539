// Every block format on the emulated GPU against the CPU's expansion, which has tests of its own: random
// blocks.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/devices.h"

namespace sonde {
namespace {

TEST(Dequantise, BlocksAsOnTheCpu) {
  const auto gpu = make_emulated_backend(), cpu = make_cpu_backend();
  std::mt19937 random(11);
  for (int type = 0; type <= static_cast<int>(DType::mxfp4); ++type) {
    const auto dtype = static_cast<DType>(type);
    if (!is_quantised(dtype)) continue;
    const std::int64_t n = 5 * info(dtype).block_values;
    Buffer blocks(bytes_of(dtype, n)), expected(4 * n), uploaded, there = gpu->allocate(4 * n), back;
    for (std::int64_t i = 0; i < blocks.bytes(); ++i)
      blocks.data()[i] = static_cast<std::byte>(random() & 0xff);
    const Tensor raw = blocks.tensor(dtype, {n}), want = expected.tensor(DType::f32, {n});
    cpu->dequantise(want, raw);
    const Tensor out = there.tensor(DType::f32, {n});
    gpu->dequantise(out, gpu->on_device(raw, uploaded));
    const Tensor found = gpu->on_host(out, back);
    for (std::int64_t i = 0; i < n; ++i) {
      const float a = reinterpret_cast<const float*>(found.data)[i],
                  b = reinterpret_cast<const float*>(want.data)[i];
      ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b)))
          << name(dtype) << " value " << i << ": " << a << ", " << b;
    }
  }
}

}  // namespace
}  // namespace sonde
