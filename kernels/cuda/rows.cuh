// Row-wise maps: y[r][c] = f(a[r][c], b[r][c]) over rows that may be strided, chosen by an index, or one row
// for all. Memory-bound: every operand is read once and written once, 16 bytes a thread where rows allow it.
//
// Ladder: one value a thread with a division for its row -> rows along the grid's y, no division -> float4.
#pragma once

#include "kernels/cuda/gpu_backend.h"

namespace sonde::SONDE_GPU {

struct Rows {
  float* data = nullptr;
  std::int64_t stride = 0;              // floats; 0: one row for all
  const std::int32_t* index = nullptr;  // row r is the index[r]-th

  GPU_DEV float* row(std::int64_t r) const { return data + (index != nullptr ? index[r] : r) * stride; }
};

inline Rows rows_of(const Tensor& t, const std::int32_t* index = nullptr) {
  return {device_f32(t), t.row_stride, index};
}
// values [n or 1, width]
inline Rows value_rows(const Tensor& t) { return {device_f32(t), t.rows() == 1 ? 0 : t.row_stride}; }

inline bool by_float4(const Rows& rows) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0 && rows.stride % 4 == 0;
}

GPU_DEV float4 load4(const float* p) {
  const uint4 v = ldg128(p);
  return {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)};
}
GPU_DEV void store4(float* p, float4 v) {
  stg128(p, uint4{__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)});
}

// Four values side by side, or the first of them alone.
template <bool kFour>
GPU_DEV float4 load(const float* p) {
  if constexpr (kFour) return load4(p);
  return {*p, 0, 0, 0};
}
template <bool kFour>
GPU_DEV void store(float* p, float4 v) {
  if constexpr (kFour)
    store4(p, v);
  else
    *p = v.x;
}

// F: float f(row, a, b); kReads: of a and b, how many are read.
template <int kReads, bool kFour, class F>
__global__ void map_rows(Rows y, Rows a, Rows b, std::int64_t rows, std::int64_t width, F f) {
  const std::int64_t step = kFour ? 4 : 1;
  const std::int64_t first = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * step;
  const std::int64_t apart = std::int64_t{gridDim.x} * blockDim.x * step;
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    float* to = y.row(r);
    const float* from = kReads > 0 ? a.row(r) : nullptr;
    const float* other = kReads > 1 ? b.row(r) : nullptr;
    for (std::int64_t c = first; c < width; c += apart) {
      if constexpr (kFour) {
        const float4 p = kReads > 0 ? load4(from + c) : float4{0, 0, 0, 0};
        const float4 q = kReads > 1 ? load4(other + c) : float4{0, 0, 0, 0};
        store4(to + c, float4{f(r, p.x, q.x), f(r, p.y, q.y), f(r, p.z, q.z), f(r, p.w, q.w)});
      } else {
        to[c] = f(r, kReads > 0 ? from[c] : 0.0f, kReads > 1 ? other[c] : 0.0f);
      }
    }
  }
}

// Threads for a row of so many items, a multiple of a warp.
inline unsigned threads_for(std::int64_t items) {
  return static_cast<unsigned>(items >= 256 ? 256 : items <= 32 ? 32 : (items + 31) / 32 * 32);
}
inline unsigned grid_rows(std::int64_t rows) { return static_cast<unsigned>(rows < 65535 ? rows : 65535); }

template <int kReads, class F>
void launch_map(const char* name, Stream& stream, Rows y, Rows a, Rows b, std::int64_t rows,
                std::int64_t width, F f) {
  const bool four =
      width % 4 == 0 && by_float4(y) && (kReads < 1 || by_float4(a)) && (kReads < 2 || by_float4(b));
  const std::int64_t items = four ? width / 4 : width;
  const unsigned threads = threads_for(items);
  const std::int64_t blocks = (items + threads - 1) / threads;
  const dim3 grid(static_cast<unsigned>(blocks < 1024 ? blocks : 1024), grid_rows(rows));
  launch(name, four ? map_rows<kReads, true, F> : map_rows<kReads, false, F>, grid, dim3(threads), 0, stream,
         y, a, b, rows, width, f);
}
template <class F>
void fill(const char* name, Stream& stream, Rows y, std::int64_t rows, std::int64_t width, F f) {
  launch_map<0>(name, stream, y, Rows{}, Rows{}, rows, width, f);
}
template <class F>
void map(const char* name, Stream& stream, Rows y, Rows a, std::int64_t rows, std::int64_t width, F f) {
  launch_map<1>(name, stream, y, a, Rows{}, rows, width, f);
}
template <class F>
void map(const char* name, Stream& stream, Rows y, Rows a, Rows b, std::int64_t rows, std::int64_t width,
         F f) {
  launch_map<2>(name, stream, y, a, b, rows, width, f);
}

}  // namespace sonde::SONDE_GPU
