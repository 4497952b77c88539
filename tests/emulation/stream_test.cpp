// Streams, events, copies, graphs and errors of the emulated runtime: what CUDA's documentation promises, and
// that a missing wait shows.
#include <cmath>

#include "tests/emulation/device.h"

namespace sonde::emulated {
namespace {

using emulation::Streams;

__global__ void add_one(float* x, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += 1;
}
__global__ void copy_values(float* y, const float* x) { y[threadIdx.x] = x[threadIdx.x]; }
__global__ void bad_address(float* x) { ldg128(reinterpret_cast<const char*>(x) + 4); }

// Pinned host memory of floats.
struct PinnedFloats {
  explicit PinnedFloats(std::size_t n) { EXPECT_EQ(cudaMallocHost(&data, n * sizeof(float)), cudaSuccess); }
  ~PinnedFloats() { cudaFreeHost(data); }
  float* data = nullptr;
};
struct OwnStream {
  OwnStream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess); }
  ~OwnStream() { cudaStreamDestroy(stream); }
  operator cudaStream_t() const { return stream; }
  cudaStream_t stream = nullptr;
};
struct OwnEvent {
  OwnEvent() { EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess); }
  ~OwnEvent() { cudaEventDestroy(event); }
  operator cudaEvent_t() const { return event; }
  cudaEvent_t event = nullptr;
};

class StreamModes : public EmulatedDevice, public ::testing::WithParamInterface<std::pair<Streams, int>> {
 protected:
  StreamModes() {
    emulation::config().streams = GetParam().first;
    emulation::config().seed = static_cast<std::uint64_t>(GetParam().second);
    cudaDeviceReset();
  }
};
INSTANTIATE_TEST_SUITE_P(All, StreamModes,
                         ::testing::Values(std::pair{Streams::eager, 1}, std::pair{Streams::lazy, 1},
                                           std::pair{Streams::random, 1}, std::pair{Streams::random, 2},
                                           std::pair{Streams::random, 3}, std::pair{Streams::random, 4}));

// Copy in on one stream, compute on another, copy out on a third; events between: right in every mode.
TEST_P(StreamModes, EventsOrderStreams) {
  OwnStream in, compute, out;
  OwnEvent loaded, computed, stored;
  DeviceArray<float> x(64);
  PinnedFloats source(64), sink(64);
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 64; ++i) source.data[i] = static_cast<float>(100 * round + i);
    ASSERT_EQ(cudaMemcpyAsync(x.data(), source.data, 256, cudaMemcpyHostToDevice, in), cudaSuccess);
    cudaEventRecord(loaded, in);
    cudaStreamWaitEvent(compute, loaded);
    ASSERT_EQ(gpu_launch(add_one, 1, 64, 0, compute, x.data(), 64), cudaSuccess);
    cudaEventRecord(computed, compute);
    cudaStreamWaitEvent(out, computed);
    ASSERT_EQ(cudaMemcpyAsync(sink.data, x.data(), 256, cudaMemcpyDeviceToHost, out), cudaSuccess);
    cudaEventRecord(stored, out);
    ASSERT_EQ(cudaEventSynchronize(stored), cudaSuccess);
    for (int i = 0; i < 64; ++i) ASSERT_EQ(sink.data[i], 100.0f * round + i + 1);
  }
}

TEST_P(StreamModes, TheDefaultStreamIsAFence) {
  cudaStream_t blocking;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  DeviceArray<float> x(std::vector<float>(8, 0.0f)), y(8);
  for (int i = 0; i < 3; ++i) {
    gpu_launch(add_one, 1, 8, 0, blocking, x.data(), 8);
    gpu_launch(add_one, 1, 8, 0, nullptr, x.data(), 8);
  }
  gpu_launch(copy_values, 1, 8, 0, blocking, y.data(), static_cast<const float*>(x.data()));
  ASSERT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_EQ(y.host()[7], 6);
  cudaStreamDestroy(blocking);
}

TEST_P(StreamModes, MemoryInStreamOrder) {
  OwnStream stream;
  DeviceArray<float> y(32);
  for (int round = 0; round < 4; ++round) {
    float* x = nullptr;
    ASSERT_EQ(cudaMallocAsync(&x, 128, stream), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(x, 0, 128, stream), cudaSuccess);
    gpu_launch(add_one, 1, 32, 0, stream, x, 32);
    gpu_launch(copy_values, 1, 32, 0, stream, y.data(), static_cast<const float*>(x));
    ASSERT_EQ(cudaFreeAsync(x, stream), cudaSuccess);
  }
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(y.host()[31], 1);
}

class StreamErrors : public EmulatedDevice {};

// ---- mistakes that must show

TEST_F(StreamErrors, ReadingBeforeTheCopyIsDoneShows) {
  OwnStream stream;
  DeviceArray<float> x(std::vector<float>(16, 3.0f));
  PinnedFloats sink(16);
  std::fill_n(sink.data, 16, 1.0f);
  ASSERT_EQ(cudaMemcpyAsync(sink.data, x.data(), 64, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_TRUE(std::isnan(sink.data[0])) << "the host did not wait";
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(sink.data[0], 3);
}

TEST_F(StreamErrors, AStreamThatDoesNotWaitSeesNaN) {
  for (const bool waits : {true, false}) {
    OwnStream copies, compute;
    OwnEvent copied;
    DeviceArray<float> x(std::vector<float>(32, 7.0f)), y(32);
    PinnedFloats source(32);
    std::fill_n(source.data, 32, 5.0f);
    ASSERT_EQ(cudaMemcpyAsync(x.data(), source.data, 128, cudaMemcpyHostToDevice, copies), cudaSuccess);
    cudaEventRecord(copied, copies);
    if (waits) cudaStreamWaitEvent(compute, copied);
    gpu_launch(copy_values, 1, 32, 0, compute, y.data(), static_cast<const float*>(x.data()));
    ASSERT_EQ(cudaStreamSynchronize(compute), cudaSuccess);
    const float found = y.host()[0];
    EXPECT_TRUE(waits ? found == 5 : std::isnan(found)) << waits << " " << found;
  }
}

TEST_F(StreamErrors, PinnedSourceOverwrittenTooEarlyShows) {
  OwnStream stream;
  DeviceArray<float> x(16);
  PinnedFloats source(16);
  std::fill_n(source.data, 16, 1.0f);
  ASSERT_EQ(cudaMemcpyAsync(x.data(), source.data, 64, cudaMemcpyHostToDevice, stream), cudaSuccess);
  std::fill_n(source.data, 16, 2.0f);  // the next batch, while the copy is in flight
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(x.host()[0], 2) << "the copy came late, as it may";
}

TEST_F(StreamErrors, PageableMemoryIsReadAtTheCall) {
  OwnStream stream;
  DeviceArray<float> x(16);
  std::vector<float> source(16, 1.0f), sink(16);
  ASSERT_EQ(cudaMemcpyAsync(x.data(), source.data(), 64, cudaMemcpyHostToDevice, stream), cudaSuccess);
  std::fill(source.begin(), source.end(), 2.0f);
  ASSERT_EQ(cudaMemcpyAsync(sink.data(), x.data(), 64, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(sink[0], 1) << "and written before the call returns";
}

TEST_F(StreamErrors, FreedMemoryIsNaNOrAnError) {
  OwnStream stream, other;
  float* x = nullptr;
  DeviceArray<float> y(32);
  PinnedFloats source(32);
  ASSERT_EQ(cudaMallocAsync(&x, 128, stream), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(x, 0, 128, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(x, source.data, 128, cudaMemcpyHostToDevice, other), cudaSuccess);  // no wait
  ASSERT_EQ(cudaFreeAsync(x, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaErrorIllegalAddress);
  EXPECT_THAT(gpu_error_detail(), ::testing::HasSubstr("freed"));
}

TEST_F(StreamErrors, HostMayNotTouchDeviceMemory) {
  if (SONDE_EMULATION_ASAN) GTEST_SKIP() << "signals are AddressSanitizer's here";
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        emulation::config().protect = true;
        DeviceArray<float> x(16);
        x.data()[0] = 1;
      },
      "");
  emulation::config().protect = true;
  DeviceArray<float> x(std::vector<float>(16, 2.0f));
  ASSERT_EQ(run_kernel(add_one, 1, 16, 0, x.data(), 16), cudaSuccess);
  EXPECT_EQ(x.host()[15], 3);
}

// ---- error codes

TEST_F(StreamErrors, Launches) {
  DeviceArray<float> x(4);
  const auto launch = [&](dim3 grid, dim3 block, std::size_t bytes = 0) {
    return gpu_launch(add_one, grid, block, bytes, nullptr, x.data(), 4);
  };
  EXPECT_EQ(launch(1, 1024), cudaSuccess);
  EXPECT_EQ(launch(1, 1025), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "a refused launch does not stay";
  EXPECT_EQ(launch(1, dim3(32, 32, 2)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(1, dim3(1, 1, 65)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(0, 32), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1, 65536), 32), cudaErrorInvalidConfiguration);
  emulation::config().compute = 80;
  EXPECT_EQ(launch(1, 32, 163 << 10), cudaSuccess);
  EXPECT_EQ(launch(1, 32, (163 << 10) + 1), cudaErrorInvalidValue);
  emulation::config().compute = 90;
  EXPECT_EQ(launch(1, 32, 227 << 10), cudaSuccess);
  EXPECT_EQ(launch(1, 32, (227 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(add_one, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20),
            cudaErrorInvalidValue);
}

TEST_F(StreamErrors, AKernelsErrorComesLateAndStays) {
  DeviceArray<float> x(16);
  EXPECT_EQ(gpu_launch(bad_address, 1, 1, 0, nullptr, x.data()), cudaSuccess) << "the launch itself is fine";
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorMisalignedAddress);
  void* more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 16), cudaErrorMisalignedAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMisalignedAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMisalignedAddress);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorMisalignedAddress), "cudaErrorMisalignedAddress");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMisalignedAddress), "misaligned address");
  cudaDeviceReset();
}

TEST_F(StreamErrors, Memory) {
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, std::size_t{1} << 50), cudaErrorMemoryAllocation);
  EXPECT_EQ(data, nullptr);
  EXPECT_EQ(cudaMalloc(&data, 0), cudaSuccess);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  int host = 0;
  EXPECT_EQ(cudaFree(&host), cudaErrorInvalidValue);
  std::size_t before = 0, total = 0, now = 0;
  cudaMemGetInfo(&before, &total);
  ASSERT_EQ(cudaMalloc(&data, 1000), cudaSuccess);
  cudaMemGetInfo(&now, &total);
  EXPECT_EQ(before - now, 1000u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 256, 0u);
  char bytes[8] = {};
  EXPECT_EQ(cudaMemcpy(data, bytes, 8, cudaMemcpyDeviceToHost), cudaErrorInvalidValue)
      << "the wrong direction";
  EXPECT_EQ(cudaMemcpy(static_cast<char*>(data) + 996, bytes, 8, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(static_cast<char*>(data) + 996, 0, 8), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(static_cast<char*>(data) + 8), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
  EXPECT_EQ(cudaFree(data), cudaErrorInvalidValue) << "twice";
  EXPECT_EQ(cudaFreeHost(bytes), cudaErrorInvalidValue);
}

TEST_F(StreamErrors, Handles) {
  cudaStream_t stream;
  cudaEvent_t event;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamWaitEvent(nullptr, event), cudaErrorInvalidResourceHandle);
}

TEST_F(StreamErrors, Devices) {
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(properties.sharedMemPerBlockOptin, std::size_t{227} << 10);
  emulation::config().devices = 0;
  count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, -1) << "left untouched, as the real one does";
}

TEST_F(StreamErrors, QueriesMakeProgress) {
  OwnStream stream;
  DeviceArray<float> x(std::vector<float>(4, 0.0f));
  for (int i = 0; i < 3; ++i) gpu_launch(add_one, 1, 4, 0, stream, x.data(), 4);
  OwnEvent event;
  cudaEventRecord(event, stream);
  int polls = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady) ASSERT_LT(++polls, 100);
  EXPECT_GT(polls, 0);
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
}

// ---- graphs

TEST_P(StreamModes, GraphsReplay) {
  OwnStream stream, side;
  OwnEvent fork, join;
  DeviceArray<float> x(std::vector<float>(16, 0.0f)), y(std::vector<float>(16, 0.0f)), z(16);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
  gpu_launch(add_one, 1, 16, 0, stream, x.data(), 16);
  cudaEventRecord(fork, stream);
  cudaStreamWaitEvent(side, fork);
  gpu_launch(copy_values, 1, 16, 0, side, y.data(), static_cast<const float*>(x.data()));
  gpu_launch(add_one, 1, 16, 0, side, y.data(), 16);
  cudaEventRecord(join, side);
  cudaStreamWaitEvent(stream, join);
  gpu_launch(copy_values, 1, 16, 0, stream, z.data(), static_cast<const float*>(y.data()));
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(x.host()[0], 0) << "captured, not run";
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(x.host()[0], 3);
  EXPECT_EQ(z.host()[0], 4);
  cudaGraphExecDestroy(exec);
}

TEST_F(StreamErrors, Capture) {
  OwnStream stream, side;
  OwnEvent event;
  DeviceArray<float> x(16);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  cudaEventRecord(event, stream);
  cudaStreamWaitEvent(side, event);
  gpu_launch(add_one, 1, 16, 0, side, x.data(), 16);
  EXPECT_EQ(cudaStreamEndCapture(side, &graph), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
}

// The default stream would have to wait for work that is only being recorded.
TEST_F(StreamErrors, DefaultStreamDuringACapture) {
  DeviceArray<float> x(16);
  for (const unsigned flags : {cudaStreamDefault, cudaStreamNonBlocking}) {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, flags), cudaSuccess);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    gpu_launch(add_one, 1, 16, 0, stream, x.data(), 16);
    const bool implicit = flags == cudaStreamDefault;
    EXPECT_EQ(gpu_launch(add_one, 1, 16, 0, nullptr, x.data(), 16),
              implicit ? cudaErrorStreamCaptureImplicit : cudaSuccess);
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph),
              implicit ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  }
}

}  // namespace
}  // namespace sonde::emulated
