// f32 rows to the store's type, to nearest even. Bytes at least: 4 read and 4 or 2 written a value; no FLOPs.
//
// Ladder: a value a thread -> eight a thread (two reads 32 bytes apart, each of half a sector) -> four.
#include "kernels/cuda/gpu_backend.h"
#include "kernels/cuda/narrow.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

template <bool kBf16>
__global__ void cast_rows(std::uint16_t* y, std::int64_t y_stride, Rows x, std::int64_t rows,
                          std::int64_t width) {
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const float* from = x.row(r);
    std::uint16_t* to = y + r * y_stride;
    for (std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; c < width;
         c += std::int64_t{gridDim.x} * blockDim.x)
      to[c] = narrow<kBf16>(from[c]);
  }
}

// Four values a thread: 16 bytes read and 8 written, side by side with its neighbours'.
template <bool kBf16>
__global__ void cast_rows_by_4(std::uint16_t* y, std::int64_t y_stride, Rows x, std::int64_t rows,
                               std::int64_t width) {
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const float* from = x.row(r);
    for (std::int64_t c = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4; c < width;
         c += std::int64_t{gridDim.x} * blockDim.x * 4) {
      const float4 v = load4(from + c);
      stg64(y + r * y_stride + c, narrow4<kBf16>(v));
    }
  }
}

struct Copy {
  GPU_DEV float operator()(std::int64_t, float x, float) const { return x; }
};

}  // namespace

void GpuBackend::do_cast(Tensor y, Tensor x) {
  const std::int64_t width = x.width();
  if (y.dtype == DType::f32) {
    const Rows to{reinterpret_cast<float*>(device_data<std::byte>(y)), width};
    return map("cast", stream_, to, rows_of(x), x.rows(), width, Copy{});
  }
  sonde_check(y.dtype == DType::bf16 || y.dtype == DType::f16, "a cast to {}", name(y.dtype));
  auto* to = device_data<std::uint16_t>(y);
  const bool bf = y.dtype == DType::bf16;
  const bool four = width % 4 == 0 && reinterpret_cast<std::uintptr_t>(to) % 8 == 0 && by_float4(rows_of(x));
  const std::int64_t items = four ? width / 4 : width;
  const unsigned threads = threads_for(items);
  const dim3 grid(static_cast<unsigned>(std::min<std::int64_t>((items + threads - 1) / threads, 1024)),
                  grid_rows(x.rows()));
  launch(
      "cast",
      four ? (bf ? cast_rows_by_4<true> : cast_rows_by_4<false>) : (bf ? cast_rows<true> : cast_rows<false>),
      grid, dim3(threads), 0, stream_, to, width, rows_of(x), x.rows(), width);
}

}  // namespace sonde::SONDE_GPU
