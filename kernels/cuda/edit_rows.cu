// Capture and edits on chosen rows: x[i] = v, x[i] + c v, c x[i], clamp(x[i]), x[i] - sum_b (x[i] b) b,
// columns set. Maps whose rows go through an index, so that strided slabs of a wider tensor are packed or
// changed in one pass.
//
// Ladder: rows.cuh's; project_out: a block per row, a warp per basis vector, the row from L1 the second time.
// Bytes at least: 4 for each value read and written, the basis once; 1 or 2 FLOPs a value, 4 n for n vectors:
// memory-bound.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

struct First {
  GPU_DEV float operator()(std::int64_t, float x, float) const { return x; }
};
struct AddScaled {
  float coefficient;
  GPU_DEV float operator()(std::int64_t, float x, float value) const { return fmaf(coefficient, value, x); }
};
struct Times {
  float factor;
  GPU_DEV float operator()(std::int64_t, float x, float) const { return x * factor; }
};
struct Clamp {
  float least, most;
  GPU_DEV float operator()(std::int64_t, float x, float) const {
    return x < least ? least : x > most ? most : x;  // NaN stays
  }
};

__global__ void fill_columns_of(Rows x, const std::int32_t* columns, std::int64_t rows, std::int64_t n,
                                float value) {
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y)
    for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
         i += std::int64_t{gridDim.x} * blockDim.x)
      x.row(r)[columns[i]] = value;
}

// A block per row: all products with the basis first, a warp each, then the subtraction.
__global__ void project_out_of(Rows x, Rows basis, std::int64_t rows, std::int64_t width, int n) {
  GPU_DYN_SMEM(memory);
  float* along = reinterpret_cast<float*>(memory);  // [n]
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    float* row = x.row(r);
    for (int i = warp; i < n; i += warps) {
      const float* b = basis.row(i);
      float sum = 0;
      for (std::int64_t c = threadIdx.x % 32; c < width; c += 32) sum = fmaf(row[c], b[c], sum);
      sum = warp_reduce(sum, SumOf{});
      if (threadIdx.x % 32 == 0) along[i] = sum;
    }
    __syncthreads();
    for (std::int64_t c = threadIdx.x; c < width; c += blockDim.x) {
      float value = row[c];
      for (int i = 0; i < n; ++i) value = fmaf(-along[i], basis.row(i)[c], value);
      row[c] = value;
    }
    __syncthreads();  // before the next row's products
  }
}

std::int64_t count(std::span<const std::int32_t> list) { return static_cast<std::int64_t>(list.size()); }

}  // namespace

void GpuBackend::do_gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) {
  map("gather_rows", stream_, rows_of(y), rows_of(x, lists_.get(rows)), count(rows), x.width(), First{});
}

void GpuBackend::do_replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) {
  map("replace_rows", stream_, rows_of(x, lists_.get(rows)), value_rows(values), count(rows), x.width(),
      First{});
}

void GpuBackend::do_add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values, float coefficient) {
  const Rows chosen = rows_of(x, lists_.get(rows));
  map("add_rows", stream_, chosen, chosen, value_rows(values), count(rows), x.width(),
      AddScaled{coefficient});
}

void GpuBackend::do_scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) {
  const Rows chosen = rows_of(x, lists_.get(rows));
  map("scale_rows", stream_, chosen, chosen, count(rows), x.width(), Times{factor});
}

void GpuBackend::do_clamp_rows(Tensor x, std::span<const std::int32_t> rows, float least, float most) {
  const Rows chosen = rows_of(x, lists_.get(rows));
  map("clamp_rows", stream_, chosen, chosen, count(rows), x.width(), Clamp{least, most});
}

void GpuBackend::do_fill_columns(Tensor x, std::span<const std::int32_t> rows,
                                 std::span<const std::int32_t> columns, float value) {
  const unsigned threads = threads_for(count(columns));
  const dim3 grid(static_cast<unsigned>((count(columns) + threads - 1) / threads), grid_rows(count(rows)));
  launch("fill_columns", fill_columns_of, grid, dim3(threads), 0, stream_, rows_of(x, lists_.get(rows)),
         lists_.get(columns), count(rows), count(columns), value);
}

void GpuBackend::do_project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) {
  const auto n = static_cast<int>(basis.rows());
  launch("project_out_rows", project_out_of,
         dim3(static_cast<unsigned>(std::min<std::int64_t>(count(rows), 1 << 20))),
         dim3(threads_for(x.width())), static_cast<std::size_t>(n) * sizeof(float), stream_,
         rows_of(x, lists_.get(rows)), rows_of(basis), count(rows), x.width(), n);
}

}  // namespace sonde::SONDE_GPU
