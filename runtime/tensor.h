// Buffer owns memory and moves; Tensor is a trivially copyable view of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/dtype.h"

namespace sonde {

// emulated: the CUDA backend's code run on the CPU, for tests.
enum class DeviceKind : std::uint8_t { cpu, cuda, emulated };
std::string_view name(DeviceKind device);
[[noreturn]] void refuse_host_access(DeviceKind device);

// A view: up to 4 dims, row-major; rows may be further apart than their width (a column slab of a wider
// tensor), everything below a row is contiguous.
struct Tensor {
  std::byte* data = nullptr;
  std::array<std::int64_t, 4> shape{};  // unused dims are 0
  int rank = 0;
  DType dtype = DType::f32;
  DeviceKind device = DeviceKind::cpu;
  std::int64_t row_stride = 0;  // elements from row i to row i + 1 of dim 0

  Tensor() = default;
  Tensor(void* memory, DType type, std::initializer_list<std::int64_t> dims);

  bool empty() const { return data == nullptr; }
  std::int64_t dim(int i) const { return shape[static_cast<std::size_t>(i)]; }
  std::int64_t rows() const { return rank == 0 ? 1 : shape[0]; }
  std::int64_t width() const;  // elements of one row
  std::int64_t count() const { return rows() * width(); }
  bool contiguous() const { return row_stride == width() || rows() <= 1; }

  // For the host: a tensor on a device is refused, the emulated one's too.
  template <class T>
  T* as() const {
    if (device != DeviceKind::cpu) refuse_host_access(device);
    return reinterpret_cast<T*>(data);
  }
  float* f32() const { return as<float>(); }
  float* row(std::int64_t i) const { return f32() + i * row_stride; }  // f32 only

  // Contiguous, in the same memory: from this tensor's element `first` on.
  Tensor part(std::int64_t first, std::initializer_list<std::int64_t> dims) const;
  Tensor slice_rows(std::int64_t first, std::int64_t n) const;              // rows [first, first + n)
  Tensor slice_columns(std::int64_t first, std::int64_t n) const;           // of a rank-2 tensor
  Tensor reshape_row(std::initializer_list<std::int64_t> row_shape) const;  // [T, H*E] -> [T, H, E]
  std::string describe() const;                                             // "f32 [19, 4, 16]"
};

// Where a Buffer's memory on a device comes from and goes back to.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::byte* allocate(std::int64_t bytes) = 0;  // aligned to 256 bytes; an Error where none is left
  virtual void free(std::byte* memory, std::int64_t bytes) noexcept = 0;
};

// 64-byte aligned memory. Debug builds fill the host's with NaN patterns, so that a read before a write
// shows.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t bytes);
  Buffer(std::int64_t bytes, std::shared_ptr<DeviceMemory> device);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  Tensor tensor(DType dtype, std::initializer_list<std::int64_t> dims) const;  // of its first bytes

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
  std::shared_ptr<DeviceMemory> device_;  // null: the host
};

// A Buffer and the view of it, for tensors that own their memory.
struct OwnedTensor {
  Buffer buffer;
  Tensor view;
};
OwnedTensor make_tensor(DType dtype, std::initializer_list<std::int64_t> shape);

}  // namespace sonde
