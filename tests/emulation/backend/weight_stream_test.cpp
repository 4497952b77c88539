// Weights that stay on the host: the same bits as on the device, in any order of use, however late the
// copies.
#include <gtest/gtest.h>

#include "kernels/devices.h"
#include "kernels/emulation/config.h"

namespace sonde {
namespace {

TEST(WeightStream, GivesTheBitsOfResidentWeights) {
  const std::int64_t rows = 9;
  const std::int64_t shapes[][2] = {{33, 40}, {64, 40}, {7, 40}, {40, 40}, {16, 40}};  // n, k
  const int order[] = {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 3, 3, 0, 2};
  std::vector<std::vector<float>> expected;
  const auto before = emulation::config().streams;
  for (const auto streams : {emulation::Streams::eager, emulation::Streams::lazy, emulation::Streams::random})
    for (const std::int64_t limit : {INT64_MAX, std::int64_t{33 * 40 * 4}, std::int64_t{0}})
      for (const Precision precision : {Precision::f32, Precision::bf16}) {
        emulation::config().streams = streams;
        const auto backend = make_emulated_backend();
        backend->limit_weights(limit);
        std::vector<std::unique_ptr<Weight>> weights;
        for (const auto& [n, k] : shapes) {
          Buffer memory(n * k * 4);
          const Tensor w = memory.tensor(DType::f32, {n, k});
          for (std::int64_t i = 0; i < n * k; ++i)
            w.f32()[i] = static_cast<float>((i * 37 + n) % 101) / 50 - 1;
          weights.push_back(backend->prepare_weight(w, precision));
        }
        Buffer host(rows * 40 * 4), x_memory;
        for (std::int64_t i = 0; i < rows * 40; ++i)
          reinterpret_cast<float*>(host.data())[i] = static_cast<float>(i % 17) / 8 - 1;
        const Tensor x = backend->on_device(host.tensor(DType::f32, {rows, 40}), x_memory);
        std::vector<Buffer> results;
        for (const int i : order) {  // all asked for before any is waited for
          results.push_back(backend->allocate(rows * shapes[i][0] * 4));
          backend->linear(results.back().tensor(DType::f32, {rows, shapes[i][0]}), x,
                          *weights[static_cast<std::size_t>(i)]);
        }
        const bool first = expected.size() < 2 * std::size(order);  // resident, of both precisions
        const std::size_t base = precision == Precision::f32 ? 0 : std::size(order);
        for (std::size_t i = 0; i < std::size(order); ++i) {
          Buffer back;
          const Tensor y = backend->on_host(results[i].tensor(DType::f32, {rows, shapes[order[i]][0]}), back);
          const std::vector<float> found(y.f32(), y.f32() + y.count());
          if (first)
            expected.push_back(found);
          else
            ASSERT_EQ(found, expected[base + i]) << "product " << i << ", limit " << limit;
        }
        weights.erase(weights.begin() + 1);  // one less to copy
        backend->linear(results[0].tensor(DType::f32, {rows, shapes[0][0]}), x, *weights[0]);
        Buffer back;
        const Tensor y = backend->on_host(results[0].tensor(DType::f32, {rows, shapes[0][0]}), back);
        ASSERT_EQ(std::vector<float>(y.f32(), y.f32() + y.count()), expected[base]);
      }
  emulation::config().streams = before;
}

}  // namespace
}  // namespace sonde
