// The emulated backend's way to the device and back, past what its pinned segments hold at a time.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/devices.h"

namespace sonde {
namespace {

TEST(Uploads, MoreThanThePinnedSegments) {
  const auto backend = make_emulated_backend();
  const std::int64_t n = std::int64_t{6} << 20;  // floats: 24 MiB
  Buffer host(4 * n), on_device, back;
  auto* values = reinterpret_cast<float*>(host.data());
  for (std::int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(i);
  const Tensor there = backend->on_device(host.tensor(DType::f32, {n}), on_device);
  const Tensor again = backend->on_host(there, back);
  EXPECT_EQ(std::memcmp(again.data, host.data(), static_cast<std::size_t>(4 * n)), 0);
}

}  // namespace
}  // namespace sonde
