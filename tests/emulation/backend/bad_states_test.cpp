// What can be wrong with a GPU and its driver: each is one error that says what was found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/gpu_backend.h"
#include "kernels/emulation/config.h"

namespace sonde::emulated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BadStates : public ::testing::Test {
 protected:
  BadStates() : settings_(emulation::config()) { cudaDeviceReset(); }
  ~BadStates() override {
    emulation::config() = settings_;
    cudaDeviceReset();
  }
  template <class F>
  static std::string error_of(const F& f) {
    try {
      f();
    } catch (const Error& error) {
      const std::string text = std::string(error.what()) + " HINT " + error.hint();
      EXPECT_EQ(text.find('\n'), text.npos) << text;
      return text;
    }
    return "no error";
  }
  static std::string error_of_device(int ordinal = 0) {
    return error_of([&] { const GpuBackend backend(ordinal); });
  }

 private:
  emulation::Config settings_;
};

__global__ void write_four(float* p) { stg128(p, uint4{}); }
__global__ void diverge(float*) {
  if (threadIdx.x == 0) __syncthreads();
}

TEST_F(BadStates, NoDriver) {
  emulation::config().driver = 0;
  EXPECT_THAT(error_of_device(), HasSubstr("--device cuda: no NVIDIA driver HINT `sonde devices`"));
  EXPECT_EQ(device_count().why_none, "no NVIDIA driver");
}

TEST_F(BadStates, DriverTooOld) {
  emulation::config().driver = 12020;
  EXPECT_THAT(error_of_device(), HasSubstr("too old: it knows CUDA 12.2, expected 13.0 or newer"));
}

TEST_F(BadStates, NoGpu) {
  emulation::config().devices = 0;
  EXPECT_THAT(error_of_device(), HasSubstr("the NVIDIA driver shows no GPU"));
}

TEST_F(BadStates, IllegalDeviceNumber) {
  emulation::config().devices = 2;
  EXPECT_THAT(error_of_device(2), AllOf(HasSubstr("cuda:2: found 2 GPUs"), HasSubstr("sonde devices")));
  EXPECT_THAT(error_of_device(-1), HasSubstr("cuda:-1: found 2 GPUs"));
  EXPECT_EQ(error_of_device(1), "no error");
}

TEST_F(BadStates, OutOfDeviceMemory) {
  GpuBackend backend(0);
  EXPECT_THAT(
      error_of([&] { backend.allocate(std::int64_t{1} << 40); }),
      AllOf(HasSubstr("out of device memory: 1099511627776 bytes wanted"), HasSubstr("--batch-tokens")));
  Buffer small = backend.allocate(1 << 20);  // the device is as well as before
  backend.zero(small.tensor(DType::f32, {1, 1 << 18}));
  EXPECT_EQ(error_of([&] { backend.wait(); }), "no error");
}

TEST_F(BadStates, HeadsThatNoKernelTakes) {
  GpuBackend backend(0);
  Buffer memory = backend.allocate(4 * 20000);
  const Tensor x = memory.tensor(DType::f32, {1, 1, 20000});
  const std::vector<std::int32_t> starts = {0, 1};
  EXPECT_THAT(error_of([&] {
                backend.attention(x, x, x, x, {starts}, {}, {1, 0, 0, Precision::f32});
              }),
              HasSubstr("attention: heads of 20000 values, expected at most 4000"));
}

// An asynchronous error shows at whatever comes next, with what the device knows of it; it stays.
TEST_F(BadStates, AnEarlierKernelsError) {
  const std::pair<void (*)(float*), const char*> bad[] = {{write_four, "misaligned store of 16 bytes"},
                                                          {diverge, "the thread ends while others wait"}};
  for (const auto& [kernel, what] : bad) {
    {
      GpuBackend backend(0);
      Buffer memory = backend.allocate(64);
      cudaStream_t stream = nullptr;
      cudaStreamCreate(&stream);
      gpu_launch(kernel, 1, 64, 0, stream, reinterpret_cast<float*>(memory.data() + 4));
      cudaStreamSynchronize(stream);
      for (int i = 0; i < 2; ++i)
        EXPECT_THAT(error_of([&] {
                      backend.zero(memory.tensor(DType::f32, {1, 16}));
                      backend.wait();
                    }),
                    AllOf(HasSubstr("zero: CUDA says"), HasSubstr(what),
                          HasSubstr("a kernel's error shows at a later call")));
    }
    cudaDeviceReset();
  }
}

}  // namespace
}  // namespace sonde::emulated
