// Buffer owns memory and moves; Tensor is a trivially copyable view of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/dtype.h"

namespace sonde {

enum class DeviceKind : std::uint8_t { cpu };

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

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  float* f32() const { return as<float>(); }
  float* row(std::int64_t i) const { return f32() + i * row_stride; }  // f32 only

  Tensor slice_rows(std::int64_t first, std::int64_t n) const;              // rows [first, first + n)
  Tensor slice_columns(std::int64_t first, std::int64_t n) const;           // of a rank-2 tensor
  Tensor reshape_row(std::initializer_list<std::int64_t> row_shape) const;  // [T, H*E] -> [T, H, E]
  std::string describe() const;                                             // "f32 [19, 4, 16]"
};

// 64-byte aligned memory. Debug builds fill it with NaN patterns, so that a read before a write shows.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

// A Buffer and the view of it, for tensors that own their memory.
struct OwnedTensor {
  Buffer buffer;
  Tensor view;
};
OwnedTensor make_tensor(DType dtype, std::initializer_list<std::int64_t> shape);

}  // namespace sonde
