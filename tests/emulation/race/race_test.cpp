// The build that sees every access: races with both lines, addresses outside of memory, traffic by line.
#include "kernels/emulation/race/traffic.h"
#include "tests/emulation/device.h"
#include "tests/emulation/planted_bugs.h"

namespace sonde::emulated {
namespace {

using emulation::Order;
using ::testing::AllOf;
using ::testing::HasSubstr;

class Races : public EmulatedDevice {
 protected:
  template <class... P, class... A>
  std::string race(void (*kernel)(P...), dim3 grid, dim3 block, A... arguments) {
    const auto error = run_kernel(kernel, grid, block, 0, arguments...);
    const std::string detail = gpu_error_detail();
    EXPECT_EQ(error, detail.empty() ? cudaSuccess : cudaErrorLaunchFailure);
    cudaDeviceReset();
    return detail;
  }
  int* memory(int n = 1024) {
    int* data = nullptr;
    cudaMalloc(&data, n * sizeof(int));
    cudaMemset(data, 0, n * sizeof(int));
    return data;
  }
};

TEST_F(Races, FoundInEveryOrderWithBothLines) {
  const auto both_lines = AllOf(HasSubstr("a race in shared memory"), HasSubstr("planted_bugs.h:"));
  for (const auto order : {Order::forward, Order::reverse, Order::random})
    for (const double preempt : {0.0, 0.05}) {
      emulation::config().order = order;
      emulation::config().preempt = preempt;
      EXPECT_THAT(race(bugs::missing_barrier<false>, 1, 256, memory()), both_lines);
      EXPECT_THAT(race(bugs::missing_syncwarp<false>, 1, 32, memory()), both_lines);
      EXPECT_THAT(race(bugs::reused_buffer<false>, 1, 256, memory()), both_lines);
      const int* in = memory();
      EXPECT_THAT(race(bugs::pipeline<bugs::Async::no_barrier>, 1, 128, memory(), in), both_lines);
      in = memory();
      EXPECT_THAT(race(bugs::pipeline<bugs::Async::late_wait>, 1, 128, memory(), in),
                  HasSubstr("the end of a cp.async"));
      EXPECT_EQ(race(bugs::missing_barrier<true>, 1, 256, memory()), "");
      EXPECT_EQ(race(bugs::missing_syncwarp<true>, 1, 32, memory()), "");
      EXPECT_EQ(race(bugs::reused_buffer<true>, 1, 256, memory()), "");
      in = memory();
      EXPECT_EQ(race(bugs::pipeline<bugs::Async::right>, 1, 128, memory(), in), "");
    }
}

TEST_F(Races, BetweenBlocks) {
  EXPECT_THAT(race(bugs::blocks_collide, 8, 1, memory()), HasSubstr("a race in global memory"));
  EXPECT_THAT(
      race(bugs::last_block_sums<false>, 8, 32, memory(), memory(), reinterpret_cast<unsigned*>(memory())),
      HasSubstr("a race in global memory"));
  EXPECT_EQ(
      race(bugs::last_block_sums<true>, 8, 32, memory(), memory(), reinterpret_cast<unsigned*>(memory())),
      "");
}

TEST_F(Races, OutsideOfMemory) {
  const auto outside = [&](auto kernel, std::size_t dynamic_bytes, auto... arguments) {
    EXPECT_EQ(run_kernel(kernel, 1, 256, dynamic_bytes, arguments...), cudaErrorIllegalAddress);
    EXPECT_THAT(gpu_error_detail(), AllOf(HasSubstr("planted_bugs.h:"), HasSubstr("outside of")));
    cudaDeviceReset();
  };
  outside(bugs::dynamic_overrun, 1024, memory());
  const int* in = memory(256);
  outside(bugs::global_overread, 0, memory(), in);
  outside(bugs::global_overwrite, 0, memory(256));
}

// ---- streams: found whatever order they happened to run in

__global__ void fill(float* x, float value) { x[threadIdx.x] = value; }

class StreamRaces : public EmulatedDevice, public ::testing::WithParamInterface<emulation::Streams> {
 protected:
  StreamRaces() {
    emulation::config().streams = GetParam();
    cudaStreamCreateWithFlags(&one_, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two_, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    cudaMalloc(&x_, 128);
    cudaMallocHost(&host_, 128);
  }
  ~StreamRaces() override {
    cudaStreamDestroy(one_);
    cudaStreamDestroy(two_);
    cudaEventDestroy(event_);
  }
  void expect(bool right) {
    const auto error = cudaDeviceSynchronize();
    EXPECT_EQ(error, right ? cudaSuccess : cudaErrorLaunchFailure);
    EXPECT_THAT(gpu_error_detail(), HasSubstr(right ? "" : "a race of streams"));
    cudaDeviceReset();
  }
  cudaStream_t one_ = nullptr, two_ = nullptr;
  cudaEvent_t event_ = nullptr;
  float *x_ = nullptr, *host_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(All, StreamRaces,
                         ::testing::Values(emulation::Streams::eager, emulation::Streams::lazy,
                                           emulation::Streams::random));

TEST_P(StreamRaces, KernelsWithAnEvent) {
  gpu_launch(fill, 1, 32, 0, one_, x_, 1.0f);
  cudaEventRecord(event_, one_);
  cudaStreamWaitEvent(two_, event_);
  gpu_launch(fill, 1, 32, 0, two_, x_, 2.0f);
  expect(true);
}
TEST_P(StreamRaces, KernelsWithoutAnEvent) {
  gpu_launch(fill, 1, 32, 0, one_, x_, 1.0f);
  gpu_launch(fill, 1, 32, 0, two_, x_, 2.0f);
  expect(false);
}
TEST_P(StreamRaces, EventRecordedTooEarly) {
  cudaEventRecord(event_, one_);
  gpu_launch(fill, 1, 32, 0, one_, x_, 1.0f);
  cudaStreamWaitEvent(two_, event_);
  cudaMemcpyAsync(host_, x_, 128, cudaMemcpyDeviceToHost, two_);
  expect(false);
}
TEST_P(StreamRaces, TheHostsWaitOrders) {
  gpu_launch(fill, 1, 32, 0, one_, x_, 1.0f);
  cudaStreamSynchronize(one_);
  cudaMemcpyAsync(host_, x_, 128, cudaMemcpyDeviceToHost, two_);
  cudaStreamSynchronize(two_);
  gpu_launch(fill, 1, 32, 0, one_, x_, 1.0f);
  expect(true);
}
TEST_P(StreamRaces, OverwrittenWhileItIsCopied) {
  cudaMemcpyAsync(host_, x_, 128, cudaMemcpyDeviceToHost, two_);
  gpu_launch(fill, 1, 32, 0, one_, x_, 1.0f);
  expect(false);
}
TEST_P(StreamRaces, FreedWhileInUse) {
  float* y = nullptr;
  cudaMallocAsync(&y, 128, one_);
  cudaEventRecord(event_, one_);
  cudaStreamWaitEvent(two_, event_);
  gpu_launch(fill, 1, 32, 0, two_, y, 1.0f);
  cudaFreeAsync(y, one_);
  EXPECT_NE(cudaDeviceSynchronize(), cudaSuccess);
  cudaDeviceReset();
}

// ---- traffic

template <int stride>
__global__ void strided_copy(float* out, const float* in) {
  out[threadIdx.x] = in[stride * threadIdx.x];
}
template <int stride>
__global__ void strided_shared(float* out) {
  GPU_SHARED(float[32 * 32], s);
  s[stride * threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[stride * threadIdx.x];
}
__global__ void wide_copy(uint4* out, const uint4* in) {
  stg128(out + threadIdx.x, ldg128(in + threadIdx.x));
}

const emulation::LineTraffic& line_of(const emulation::Traffic& t, bool shared, bool write) {
  for (const auto& line : t.lines)
    if (line.shared == shared && line.write == write) return line;
  ADD_FAILURE() << "no such line";
  return t.lines.front();
}

class TrafficOf : public Races {
 protected:
  TrafficOf() {
    emulation::config().trace = true;
    emulation::clear_traffic();
  }
};

TEST_F(TrafficOf, Sectors) {
  float* in = reinterpret_cast<float*>(memory());
  float* out = reinterpret_cast<float*>(memory());
  ASSERT_EQ(run_kernel(strided_copy<1>, 1, 32, 0, out, static_cast<const float*>(in)), cudaSuccess);
  auto t = emulation::traffic();
  EXPECT_EQ(line_of(t, false, false).needed, 4u);  // 128 bytes
  EXPECT_EQ(line_of(t, false, false).efficiency(), 1);
  EXPECT_EQ(t.sectors_written, 4u);
  emulation::clear_traffic();
  ASSERT_EQ(run_kernel(strided_copy<8>, 1, 32, 0, out, static_cast<const float*>(in)), cudaSuccess);
  t = emulation::traffic();
  EXPECT_EQ(line_of(t, false, false).needed, 32u);  // a sector each
  EXPECT_EQ(line_of(t, false, false).efficiency(), 4.0 / 32);
  EXPECT_EQ(t.bytes_read, 128u);
}

TEST_F(TrafficOf, SixteenBytesAreOneRequest) {
  auto* in = reinterpret_cast<uint4*>(memory());
  auto* out = reinterpret_cast<uint4*>(memory());
  ASSERT_EQ(run_kernel(wide_copy, 1, 64, 0, out, static_cast<const uint4*>(in)), cudaSuccess);
  const auto t = emulation::traffic();
  EXPECT_EQ(line_of(t, false, false).requests, 2u);
  EXPECT_EQ(line_of(t, false, false).needed, 32u);
  EXPECT_EQ(line_of(t, false, true).efficiency(), 1);
}

TEST_F(TrafficOf, BankConflicts) {
  float* out = reinterpret_cast<float*>(memory());
  ASSERT_EQ(run_kernel(strided_shared<1>, 1, 32, 0, out), cudaSuccess);
  EXPECT_EQ(line_of(emulation::traffic(), true, true).needed, 1u);
  emulation::clear_traffic();
  ASSERT_EQ(run_kernel(strided_shared<2>, 1, 32, 0, out), cudaSuccess);
  EXPECT_EQ(line_of(emulation::traffic(), true, true).needed, 2u);
  emulation::clear_traffic();
  ASSERT_EQ(run_kernel(strided_shared<32>, 1, 32, 0, out), cudaSuccess);
  EXPECT_EQ(line_of(emulation::traffic(), true, true).needed, 32u);
  EXPECT_EQ(line_of(emulation::traffic(), true, true).least, 1u);
}

}  // namespace
}  // namespace sonde::emulated
