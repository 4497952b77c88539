// y = x w' (+ bias) by cuBLASLt: float without TF32, or operands of 16 or 8 bits with float sums. The library
// is opened when a GPU is first used, so that nobody else pays for its half gigabyte; the algorithm of each
// shape is chosen once, for all runs on such a GPU.
#pragma once

#include <map>
#include <memory>
#include <tuple>

#include "kernels/cuda/algorithms.h"
#include "kernels/cuda/memory.h"

namespace sonde::SONDE_GPU {

class Blas {
 public:
  // recorded: the algorithms of a run, in its output; an empty path: none is to be kept there.
  Blas(Stream& stream, std::shared_ptr<DeviceMemory> memory, const std::string& gpu,
       const std::filesystem::path& recorded);
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  struct Operands {
    float* y;
    std::int64_t y_stride;
    const void* x;  // [rows, k], of dtype
    std::int64_t x_stride;
    const void* w;      // [n, k] contiguous, of the same type
    const float* bias;  // [n] or null
    std::int64_t rows, n, k;
    DType dtype;  // f32, bf16, f16 or e4m3
  };
  // Whether the library takes such operands: their addresses and strides.
  static bool takes(const Operands& o);
  void linear(const Operands& o);
  std::size_t version() const;  // of the library

 private:
  struct Library;
  struct Plan;
  void point_to_bias(const Plan& plan, const Operands& o);
  static void multiply(cudaStream_t stream, Blas* blas, Plan* of_shape, Operands o);
  void choose(Plan& plan, const Operands& o);
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType, bool>;

  Stream& stream_;
  std::unique_ptr<Library> library_;
  Algorithms algorithms_;
  std::map<Shape, Plan> plans_;
  Buffer workspace_;
};

}  // namespace sonde::SONDE_GPU
