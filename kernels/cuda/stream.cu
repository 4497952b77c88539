#include "kernels/cuda/stream.h"

#include <utility>

namespace sonde::SONDE_GPU {
namespace {

int checked_ordinal(int ordinal) {
  const DeviceCount found = device_count();
  if (found.count == 0)
    fail_hint("`sonde devices` shows what this machine has; --device cpu runs without a GPU",
              "--device cuda: {}", found.why_none);
  const int count = found.count;
  if (ordinal < 0 || ordinal >= count)
    fail_hint("`sonde devices` lists them", "--device cuda:{}: found {} GPUs, expected a number below it",
              ordinal, count);
  return ordinal;
}

}  // namespace

DeviceCount device_count() {
  DeviceCount found;  // count stays 0 where there is no driver
  const cudaError_t error = cudaGetDeviceCount(&found.count);
  if (error == cudaSuccess && found.count > 0) return found;
  cudaGetLastError();
  found.count = 0;
  int driver = 0, runtime = 0;  // 13020 is CUDA 13.2
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (error == cudaErrorInsufficientDriver && driver == 0)
    found.why_none = "no NVIDIA driver";
  else if (error == cudaErrorInsufficientDriver)
    found.why_none = fmt::format("the NVIDIA driver is too old: it knows CUDA {}.{}, expected {}.{} or newer",
                                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  else if (error == cudaSuccess || error == cudaErrorNoDevice)
    found.why_none = "the NVIDIA driver shows no GPU";
  else
    found.why_none = fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
  return found;
}

Stream::Stream(int ordinal, Launches launches) : launches_(launches) {
  check(cudaSetDevice(checked_ordinal(ordinal)), "choosing the GPU");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
}

Stream::~Stream() {
  drop();
  cudaStreamDestroy(stream_);
}

Stream::operator cudaStream_t() {
  if (!handing_over_) {
    hand_over();
    ++turn_;
  }
  return stream_;
}

void Stream::hand_over() {
  if (handing_over_) return;
  handing_over_ = true;
  struct Done {  // an error, too, ends what was kept back
    Stream& s;
    ~Done() {
      s.drop();
      s.handing_over_ = false;
    }
  } const done{*this};
  if (before_) before_();
  if (!calls_.empty()) graphs_.run(calls_, stream_);
}

void Stream::free(void* memory) noexcept {
  if (!calls_.empty()) return freed_.push_back(memory);
  if (cudaFreeAsync(memory, stream_) != cudaSuccess)
    cudaGetLastError();  // the device is lost: so is its memory
}

void Stream::drop() noexcept {
  calls_.clear();
  for (void* memory : std::exchange(freed_, {})) free(memory);
}

}  // namespace sonde::SONDE_GPU
