#include "kernels/cuda/gpu_backend.h"

#include <cstdlib>

#include "kernels/cuda/nccl.h"
#include "kernels/cuda/weight_stream.h"

namespace sonde::SONDE_GPU {
namespace {

Stream::Launches graphs_are_wanted() {
  const char* asked = std::getenv("SONDE_GRAPHS");
  const std::string_view wanted = asked != nullptr ? asked : "1";
  if (wanted != "0" && wanted != "1")
    throw UsageError(fmt::format("SONDE_GRAPHS: found '{}', expected 0 or 1", wanted));
  return wanted == "1" ? Stream::Launches::together : Stream::Launches::at_once;
}

}  // namespace

GpuBackend::GpuBackend(int ordinal, const std::filesystem::path& algorithms)
    : ordinal_(ordinal),
      stream_(ordinal, graphs_are_wanted()),
      memory_(std::make_shared<StreamMemory>(stream_, kDevice)),
      pinned_(std::make_shared<PinnedMemory>()),
      uploader_(stream_),
      lists_(stream_, uploader_, memory_) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, ordinal), "asking for the GPU's properties");
  gpu_ = properties.name;
  compute_ = properties.major * 10 + properties.minor;
  blas_ = std::make_unique<Blas>(stream_, memory_, gpu_, algorithms);
  name_ =
      fmt::format("{}:{} {} (sm_{}{}, {:.1f} GiB)", name(kDevice), ordinal, properties.name, properties.major,
                  properties.minor, static_cast<double>(properties.totalGlobalMem) / (1 << 30));
}

GpuBackend::~GpuBackend() {
  stream_.drop();
  cudaStreamSynchronize(stream_.handle());
}

std::string GpuBackend::describe() const { return name_; }

// Of a GPU with what its products' bits depend on: the algorithms kept for it are this version's.
std::string GpuBackend::path(Precision precision) const {
  const std::string_view type = name(dtype_of(precision));
  if (kDevice == DeviceKind::emulated) return fmt::format("{}-{}", name(kDevice), type);
  return fmt::format("{}-{}, {}, cuBLASLt {}", name(kDevice), type, gpu_, blas_->version());
}

std::int64_t GpuBackend::memory_left() const {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for the GPU's free memory");
  return static_cast<std::int64_t>(free);
}

void GpuBackend::limit_weights(std::int64_t bytes) {
  weights_limit_ = bytes;
  weights_here_ = 0;
  if (weight_stream_ == nullptr) weight_stream_ = std::make_shared<WeightStream>(ordinal_, stream_, memory_);
}

std::unique_ptr<DeviceRanks> GpuBackend::join(RankLink& link, std::string& why_not) {
  return join_nccl(ordinal_, stream_, memory_, link, why_not);
}

void GpuBackend::wait() { check(cudaStreamSynchronize(stream_), "waiting for the GPU"); }

namespace {

// As t, contiguous in `memory`, which grows.
template <class Allocate>
Tensor copy_of(Tensor t, Buffer& memory, const Allocate& allocate) {
  const std::int64_t bytes = bytes_of(t.dtype, t.count());
  if (memory.bytes() < bytes || bytes == 0) memory = allocate(std::max<std::int64_t>(bytes, 1));
  Tensor copy = memory.tensor(t.dtype, {t.count()});
  copy.shape = t.shape;
  copy.rank = t.rank;
  copy.row_stride = copy.width();
  return copy;
}

}  // namespace

Tensor GpuBackend::on_device(Tensor host, Buffer& memory) {
  if (host.empty() || host.device == kDevice) return host;
  const Tensor copy = copy_of(host, memory, [&](std::int64_t bytes) { return allocate(bytes); });
  upload_rows(copy, host);
  return copy;
}

void GpuBackend::upload_rows(Tensor device, Tensor host) {
  if (host.contiguous()) return uploader_.copy(device.data, host.data, bytes_of(host.dtype, host.count()));
  const std::int64_t row = bytes_of(host.dtype, host.width());
  for (std::int64_t i = 0; i < host.rows(); ++i)
    uploader_.copy(device.data + i * row, host.data + bytes_of(host.dtype, i * host.row_stride), row);
}

Tensor GpuBackend::on_host(Tensor device, Buffer& memory) {
  if (device.empty() || device.device == DeviceKind::cpu) return device;
  device_data<std::byte>(device);
  const Tensor copy = copy_of(device, memory, [&](std::int64_t bytes) { return Buffer(bytes, pinned_); });
  const auto row = static_cast<std::size_t>(bytes_of(device.dtype, device.width()));
  const auto apart = static_cast<std::size_t>(bytes_of(device.dtype, device.row_stride));
  const auto rows = static_cast<std::size_t>(device.rows());
  if (row > 0 && rows > 0)
    check(device.contiguous()
              ? cudaMemcpyAsync(copy.data, device.data, row * rows, cudaMemcpyDeviceToHost, stream_)
              : cudaMemcpy2DAsync(copy.data, row, device.data, apart, row, rows, cudaMemcpyDeviceToHost,
                                  stream_),
          "copying to the host");
  wait();
  return copy;
}

}  // namespace sonde::SONDE_GPU
