#include "runtime/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace sonde {

Tensor::Tensor(void* memory, DType type, std::initializer_list<std::int64_t> dims)
    : data(static_cast<std::byte*>(memory)), rank(static_cast<int>(dims.size())), dtype(type) {
  sonde_check(dims.size() <= shape.size(), "rank {}", dims.size());
  std::size_t i = 0;
  for (std::int64_t n : dims) shape[i++] = n;
  row_stride = width();
}

std::int64_t Tensor::width() const {
  std::int64_t n = 1;
  for (int i = 1; i < rank; ++i) n *= dim(i);
  return n;
}

std::string_view name(DeviceKind device) {
  return device == DeviceKind::cpu ? "cpu" : device == DeviceKind::cuda ? "cuda" : "emulated";
}

void refuse_host_access(DeviceKind device) {
  fail("the host reads a tensor of device {}: it needs a copy first", name(device));
}

Tensor Tensor::part(std::int64_t first, std::initializer_list<std::int64_t> dims) const {
  Tensor t(data + bytes_of(dtype, first), dtype, dims);
  t.device = device;
  return t;
}

Tensor Tensor::slice_rows(std::int64_t first, std::int64_t n) const {
  sonde_check(first >= 0 && n >= 0 && first + n <= rows(), "rows {}..{} of {}", first, first + n, describe());
  Tensor t = *this;
  t.data += bytes_of(dtype, first * row_stride);
  t.shape[0] = n;
  return t;
}

Tensor Tensor::slice_columns(std::int64_t first, std::int64_t n) const {
  sonde_check(rank == 2 && first >= 0 && first + n <= dim(1), "columns {}..{} of {}", first, first + n,
              describe());
  Tensor t = *this;
  t.data += bytes_of(dtype, first);
  t.shape[1] = n;
  return t;
}

Tensor Tensor::reshape_row(std::initializer_list<std::int64_t> row_shape) const {
  Tensor t = *this;
  t.rank = 1 + static_cast<int>(row_shape.size());
  std::fill(t.shape.begin() + 1, t.shape.end(), 0);
  std::size_t i = 1;
  for (std::int64_t n : row_shape) t.shape[i++] = n;
  sonde_check(t.width() == width(), "row of {} as a row of {}", describe(), t.describe());
  return t;
}

std::string Tensor::describe() const {
  std::string dims;
  for (int i = 0; i < rank; ++i) dims += (i ? ", " : "") + std::to_string(dim(i));
  return fmt::format("{} [{}]", name(dtype), dims);
}

Buffer::Buffer(std::int64_t bytes) : bytes_(bytes) {
  sonde_check(bytes >= 0, "{} bytes", bytes);
  if (bytes == 0) return;
  const std::size_t rounded = (static_cast<std::size_t>(bytes) + 63) / 64 * 64;
  data_ = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
  if (data_ == nullptr) fail("out of memory: {} bytes wanted", bytes);
#ifndef NDEBUG
  std::memset(data_, 0xff, rounded);  // a NaN in every float type
#endif
}

Buffer::Buffer(std::int64_t bytes, std::shared_ptr<DeviceMemory> device)
    : bytes_(bytes), device_(std::move(device)) {
  sonde_check(bytes >= 0, "{} bytes", bytes);
  if (bytes > 0) data_ = device_->allocate(bytes);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(std::move(other.device_)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  return *this;
}

Buffer::~Buffer() {
  if (device_ == nullptr)
    std::free(data_);
  else if (data_ != nullptr)
    device_->free(data_, bytes_);
}

Tensor Buffer::tensor(DType dtype, std::initializer_list<std::int64_t> dims) const {
  Tensor t(data_, dtype, dims);
  if (device_ != nullptr) t.device = device_->kind();
  sonde_check(bytes_of(dtype, t.count()) <= bytes_, "{} in {} bytes", t.describe(), bytes_);
  return t;
}

OwnedTensor make_tensor(DType dtype, std::initializer_list<std::int64_t> shape) {
  std::int64_t count = 1;
  for (std::int64_t n : shape)
    if (n < 0 || __builtin_mul_overflow(count, n, &count))
      fail("a tensor of {} x {} values overflows", count, n);
  OwnedTensor t{Buffer(bytes_of(dtype, count)), {}};
  t.view = Tensor(t.buffer.data(), dtype, shape);
  return t;
}

}  // namespace sonde
