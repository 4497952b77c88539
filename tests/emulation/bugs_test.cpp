// Planted bugs that the plain build catches: each in the mode that docs/emulation.md names, right twins
// never.
#include <cmath>

#include "tests/emulation/device.h"
#include "tests/emulation/planted_bugs.h"

namespace sonde::emulated {
namespace {

using emulation::Order;
using ::testing::HasSubstr;

class Bugs : public EmulatedDevice {
 protected:
  // Whether every value is as the kernel should leave it.
  template <class... P, class... A>
  bool right(void (*kernel)(P...), unsigned threads, int (*expected)(int), A... arguments) {
    DeviceArray<int> out(threads);
    EXPECT_EQ(run_kernel(kernel, 1, threads, 0, out.data(), arguments...), cudaSuccess) << gpu_error_detail();
    const auto found = out.host();
    for (unsigned i = 0; i < threads; ++i)
      if (found[i] != expected(static_cast<int>(i))) return false;
    return true;
  }
  // The error of a kernel, with this in its message.
  template <class... P, class... A>
  void fails(cudaError_t code, const char* says, void (*kernel)(P...), dim3 grid, unsigned threads,
             std::size_t dynamic_bytes, A... arguments) {
    EXPECT_EQ(run_kernel(kernel, grid, threads, dynamic_bytes, arguments...), code);
    EXPECT_THAT(gpu_error_detail(), HasSubstr(says));
    EXPECT_EQ(cudaGetLastError(), code) << "a kernel's error stays";
    EXPECT_EQ(cudaDeviceSynchronize(), code);
    cudaDeviceReset();
  }
};

TEST_F(Bugs, MissingBarrierGivesWrongValuesInEveryOrder) {
  for (const auto order : {Order::forward, Order::reverse, Order::random}) {
    emulation::config().order = order;
    const auto rotated = [](int i) { return (i + 33) % 256; };
    EXPECT_TRUE(right(bugs::missing_barrier<true>, 256, rotated));
    if (!emulation::accesses_are_checked()) {
      EXPECT_FALSE(right(bugs::missing_barrier<false>, 256, rotated));
    }
  }
}

TEST_F(Bugs, ReusedBufferShowsForwardAndReverse) {
  for (const auto order : {Order::forward, Order::reverse}) {
    emulation::config().order = order;
    EXPECT_TRUE(right(bugs::reused_buffer<true>, 256, [](int) { return 768; }));
    if (!emulation::accesses_are_checked()) {
      EXPECT_FALSE(right(bugs::reused_buffer<false>, 256, [](int) { return 768; }));
    }
  }
}

TEST_F(Bugs, LateCopiesShow) {
  std::vector<int> values(256);
  for (int i = 0; i < 256; ++i) values[i] = i;
  const auto expected = [](int i) { return 127 - i; };
  for (const auto order : {Order::forward, Order::reverse, Order::random}) {
    emulation::config().order = order;
    DeviceArray<int> in(values);
    const int* from = in.data();
    EXPECT_TRUE(right(bugs::pipeline<bugs::Async::right>, 128, expected, from));
    if (!emulation::accesses_are_checked()) {
      EXPECT_FALSE(right(bugs::pipeline<bugs::Async::late_wait>, 128, expected, from));
      EXPECT_FALSE(right(bugs::pipeline<bugs::Async::no_barrier>, 128, expected, from));
    }
  }
  DeviceArray<int> in(values), out(128);
  fails(cudaErrorLaunchFailure, "nothing waited for", bugs::pipeline<bugs::Async::no_wait>, 1, 128, 0,
        out.data(), static_cast<const int*>(in.data()));
}

TEST_F(Bugs, DivergenceIsAnErrorThatNamesBothLines) {
  for (const auto order : {Order::forward, Order::reverse, Order::random}) {
    emulation::config().order = order;
    int* out = nullptr;
    const auto fresh = [&] {
      cudaMalloc(&out, 4096);
      return out;
    };
    fails(cudaErrorLaunchFailure, "planted_bugs.h", bugs::half_barrier, 1, 256, 0, fresh());
    fails(cudaErrorLaunchFailure, "barrier divergence", bugs::two_barriers, 1, 256, 0, fresh());
    fails(cudaErrorLaunchFailure, "planted_bugs.h", bugs::lane_left, 1, 32, 0, fresh());
    fails(cudaErrorLaunchFailure, "warp divergence", bugs::lanes_split, 1, 32, 0, fresh());
    fails(cudaErrorLaunchFailure, "not in its mask", bugs::wrong_mask, 1, 32, 0, fresh());
    fails(cudaErrorLaunchFailure, "not in its mask", bugs::shuffle_from_outside, 1, 32, 0, fresh());
  }
}

TEST_F(Bugs, MisalignedAddress) {
  DeviceArray<float> out(8), in(64);
  fails(cudaErrorMisalignedAddress, "16 bytes", bugs::misaligned_load, 1, 8, 0, out.data(),
        static_cast<const float*>(in.data()));
}

TEST_F(Bugs, UninitialisedIsNaN) {
  DeviceArray<float> out(256);
  ASSERT_EQ(run_kernel(bugs::uninitialised_shared, 1, 256, 0, out.data()), cudaSuccess);
  const auto found = out.host();
  EXPECT_EQ(found[254], 0);
  EXPECT_TRUE(std::isnan(found[255]));
  DeviceArray<float> fresh(4);
  EXPECT_TRUE(std::isnan(fresh.host()[3])) << "device memory starts as NaN";
}

TEST_F(Bugs, UninitialisedAccumulator) {
  DeviceArray<float> out(1), in(std::vector<float>{1, 2, 3});
  ASSERT_EQ(run_kernel(bugs::uninitialised_sum, 1, 1, 0, out.data(), in.data(), 3), cudaSuccess);
  EXPECT_FALSE(out.host()[0] == 6);
}

TEST_F(Bugs, SharedMemoryThatDoesNotFit) {
  DeviceArray<int> out(256);
  // dynamic and static together, which only the kernel knows: at run time
  fails(cudaErrorInvalidValue, "shared memory do not fit", bugs::missing_barrier<true>, 1, 256, 227 << 10,
        out.data());
}

TEST_F(Bugs, WritesPastAnAllocationShowAtTheNextWait) {
  if (SONDE_EMULATION_ASAN || emulation::accesses_are_checked())
    GTEST_SKIP() << "this build sees the write itself";
  DeviceArray<int> out(33);
  fails(cudaErrorIllegalAddress, "past its end", bugs::global_overwrite, 1, 33, 0, out.data());
}

TEST_F(Bugs, LastBlockSums) {
  for (const auto order : {Order::forward, Order::reverse, Order::random}) {
    emulation::config().order = order;
    DeviceArray<int> out(1), partial(64);
    DeviceArray<unsigned> count(std::vector<unsigned>{0});
    ASSERT_EQ(run_kernel(bugs::last_block_sums<true>, 64, 32, 0, out.data(), partial.data(), count.data()),
              cudaSuccess)
        << gpu_error_detail();
    EXPECT_EQ(out.host()[0], 64 * 65 / 2);
  }
}

}  // namespace
}  // namespace sonde::emulated
