// What tests of the emulated device share: memory on it, a fresh device with the settings of the test.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/gpu.h"
#include "kernels/emulation/access.h"
#include "kernels/emulation/config.h"
#include "kernels/emulation/sanitizer.h"

namespace sonde::emulated {

// A fresh device, and settings that the next test does not see.
class EmulatedDevice : public ::testing::Test {
 protected:
  EmulatedDevice() : settings_(emulation::config()) { cudaDeviceReset(); }
  ~EmulatedDevice() override {
    emulation::config() = settings_;
    cudaDeviceReset();
  }

 private:
  emulation::Config settings_;
};

// Values on the device. Launch with data(), then read with host().
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n) : n_(n) { EXPECT_EQ(cudaMalloc(&data_, n * sizeof(T)), cudaSuccess); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* data() { return data_; }
  std::size_t size() const { return n_; }
  std::vector<T> host() const {
    std::vector<T> values(n_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess)
        << gpu_error_detail();
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

// Launches in the default stream and waits.
template <class... P, class... A>
cudaError_t run_kernel(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t dynamic_bytes,
                       A&&... arguments) {
  const auto error = gpu_launch(kernel, grid, block, dynamic_bytes, nullptr, std::forward<A>(arguments)...);
  return error == cudaSuccess ? cudaDeviceSynchronize() : error;
}

}  // namespace sonde::emulated
