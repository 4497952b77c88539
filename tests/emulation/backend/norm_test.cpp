// Norms of dense rows that vectors of four divide, against the formula in double.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/devices.h"

namespace sonde {
namespace {

TEST(Norms, RowsOfFours) {
  const auto gpu = make_emulated_backend();
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0.7f);
  for (const std::int64_t D : {4, 64, 260}) {
    const std::int64_t T = 3;
    Buffer x(4 * T * D), weight(4 * D), x_there, weight_there, y_there = gpu->allocate(4 * T * D), back;
    for (Buffer* values : {&x, &weight})
      for (std::int64_t i = 0; i < values->bytes() / 4; ++i)
        reinterpret_cast<float*>(values->data())[i] = normal(random);
    const Tensor xs = x.tensor(DType::f32, {T, D}), ws = weight.tensor(DType::f32, {D});
    const Tensor y = y_there.tensor(DType::f32, {T, D});
    for (const auto kind : {NormKind::rms, NormKind::layer}) {
      gpu->norm(kind, y, gpu->on_device(xs, x_there), gpu->on_device(ws, weight_there), {}, 1e-3f);
      const Tensor found = gpu->on_host(y, back);
      for (std::int64_t t = 0; t < T; ++t) {
        const float* row = xs.row(t);
        double mean = 0, squares = 0;
        for (std::int64_t d = 0; kind == NormKind::layer && d < D; ++d)
          mean += row[d] / static_cast<double>(D);
        for (std::int64_t d = 0; d < D; ++d) squares += (row[d] - mean) * (row[d] - mean);
        const double scale = std::sqrt(squares / static_cast<double>(D) + static_cast<double>(1e-3f));
        for (std::int64_t d = 0; d < D; ++d) {
          const double want = (row[d] - mean) / scale * static_cast<double>(ws.row(0)[d]);
          ASSERT_NEAR(static_cast<double>(found.row(t)[d]), want, 1e-6 * (1 + std::fabs(want)))
              << D << " " << d;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sonde
