// Barriers, shuffles, votes and reductions, each against what its definition gives, in every order of
// threads.
#include <algorithm>
#include <numeric>

#include "tests/emulation/device.h"

namespace sonde::emulated {
namespace {

using emulation::Order;

class Orders : public EmulatedDevice, public ::testing::WithParamInterface<Order> {
 protected:
  Orders() { emulation::config().order = GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(All, Orders, ::testing::Values(Order::forward, Order::reverse, Order::random));
using Barriers = Orders;
using Warps = Orders;

__global__ void rotate(int* out, int n) {
  GPU_DYN_SMEM(bytes);
  int* s = reinterpret_cast<int*>(bytes);
  s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[blockIdx.x * n + threadIdx.x] = s[(threadIdx.x + 33) % n];
}
TEST_P(Orders, BarrierSeparatesWritesFromReads) {
  for (const int n : {1, 32, 33, 256, 1024}) {
    DeviceArray<int> out(3 * n);
    ASSERT_EQ(run_kernel(rotate, 3, n, n * sizeof(int), out.data(), n), cudaSuccess) << gpu_error_detail();
    const auto found = out.host();
    for (int i = 0; i < 3 * n; ++i) ASSERT_EQ(found[i], (i % n + 33) % n) << n;
  }
}

__global__ void shuffles(int* out) {
  const int lane = threadIdx.x, v = 100 + lane;
  out[lane] = __shfl_sync(~0u, v, 5);
  out[32 + lane] = __shfl_xor_sync(~0u, v, 3);
  out[64 + lane] = __shfl_down_sync(~0u, v, 2);
  out[96 + lane] = __shfl_up_sync(~0u, v, 7, 16);
  out[128 + lane] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
  out[160 + lane] = __reduce_add_sync(~0u, lane);
  out[192 + lane] = __any_sync(~0u, lane == 9) * 2 + __all_sync(~0u, lane < 32);
}
TEST_P(Orders, Shuffles) {
  DeviceArray<int> out(224);
  ASSERT_EQ(run_kernel(shuffles, 1, 32, 0, out.data()), cudaSuccess) << gpu_error_detail();
  const auto found = out.host();
  unsigned third = 0;
  for (int l = 0; l < 32; l += 3) third |= 1u << l;
  for (int l = 0; l < 32; ++l) {
    EXPECT_EQ(found[l], 105);
    EXPECT_EQ(found[32 + l], 100 + (l ^ 3));
    EXPECT_EQ(found[64 + l], l + 2 < 32 ? 102 + l : 100 + l);
    EXPECT_EQ(found[96 + l], l % 16 >= 7 ? 100 + l - 7 : 100 + l);
    EXPECT_EQ(found[128 + l], static_cast<int>(third));
    EXPECT_EQ(found[160 + l], 496);
    EXPECT_EQ(found[192 + l], 3);
  }
}

}  // namespace
}  // namespace sonde::emulated
