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
      for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp8}) {
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
        const bool first = expected.size() < 3 * std::size(order);  // resident, of all precisions
        const std::size_t base = std::size(order) * (precision == Precision::f32    ? 0
                                                     : precision == Precision::bf16 ? 1
                                                                                    : 2);
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

// All experts, one after the other, by way of the two buffers.
TEST(WeightStream, GivesTheBitsOfResidentExperts) {
  const std::int64_t T = 30, k = 2, X = 4, N = 40, K = 32;
  std::vector<float> expected;
  const auto before = emulation::config().streams;
  for (const auto streams : {emulation::Streams::eager, emulation::Streams::lazy, emulation::Streams::random})
    for (const std::int64_t limit : {INT64_MAX, 2 * N * K * 2, std::int64_t{0}}) {
      emulation::config().streams = streams;
      const auto backend = make_emulated_backend();
      backend->limit_weights(limit);
      std::vector<std::unique_ptr<Weight>> weights;
      std::vector<const Weight*> experts;
      for (std::int64_t e = 0; e < X; ++e) {
        const OwnedTensor w = make_tensor(DType::f32, {N, K});
        for (std::int64_t i = 0; i < N * K; ++i)
          w.view.f32()[i] = static_cast<float>((i * 37 + e * 11) % 101) / 50 - 1;
        weights.push_back(backend->prepare_weight(w.view, Precision::bf16));
        experts.push_back(weights.back().get());
      }
      const OwnedTensor rows = make_tensor(DType::f32, {T, K}), chosen = make_tensor(DType::f32, {T, k});
      for (std::int64_t i = 0; i < T * K; ++i) rows.view.f32()[i] = static_cast<float>(i % 17) / 8 - 1;
      for (std::int64_t i = 0; i < T * k; ++i)  // 0 1, 1 2, 2 3, 3 0
        chosen.view.f32()[i] = static_cast<float>((i / k + i % k) % X);
      Buffer x_memory, choice_memory, back;
      const Tensor x = backend->on_device(rows.view, x_memory);
      const Tensor choice = backend->on_device(chosen.view, choice_memory);
      Buffer result = backend->allocate(T * k * N * 4);
      const Tensor y = result.tensor(DType::f32, {T * k, N});
      ASSERT_TRUE(backend->linear_by_expert(y, x, choice, experts, 0));
      const Tensor found = backend->on_host(y, back);
      const std::vector<float> values(found.f32(), found.f32() + found.count());
      if (expected.empty()) expected = values;
      ASSERT_EQ(values, expected) << "limit " << limit;
    }
  emulation::config().streams = before;
}

}  // namespace
}  // namespace sonde
