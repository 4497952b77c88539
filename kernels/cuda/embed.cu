// Rows of a table, and whole tensors, from any storage type to f32. Bytes: the stored ones once and 4 written
// a value; eight values a thread, so that a scale is read once for them.
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

// Row r of `out` from row index[r] of raw, row_bytes apart.
template <class Format>
__global__ void expand_rows(Rows out, const Byte* raw, std::int64_t row_bytes, const std::int32_t* index,
                            std::int64_t rows, std::int64_t width) {
  constexpr int kStep = Format::kValues == 1 ? 1 : 8;
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const Byte* from = raw + (index != nullptr ? index[r] : r) * row_bytes;
    float* to = out.row(r);
    for (std::int64_t c = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kStep; c < width;
         c += std::int64_t{gridDim.x} * blockDim.x * kStep) {
      if constexpr (Format::kValues == 1) {
        to[c] = Format::one(from + c * Format::kBytes);
      } else {
        float y[8];
        Format::eight(y, from + c / Format::kValues * Format::kBytes, static_cast<int>(c % Format::kValues));
        for (int j = 0; j < 8; ++j) to[c + j] = y[j];
      }
    }
  }
}

void expand(const char* name, cudaStream_t stream, Rows out, Tensor raw, const std::int32_t* index,
            std::int64_t rows, std::int64_t width) {
  with_format(raw.dtype, [&](auto format) {
    using Format = decltype(format);
    const std::int64_t items = Format::kValues == 1 ? width : width / 8;
    const unsigned threads = threads_for(items);
    const dim3 grid(static_cast<unsigned>(std::min<std::int64_t>((items + threads - 1) / threads, 4096)),
                    grid_rows(rows));
    launch(name, expand_rows<Format>, grid, dim3(threads), 0, stream, out, device_data<const Byte>(raw),
           bytes_of(raw.dtype, raw.row_stride), index, rows, width);
  });
}

}  // namespace

void GpuBackend::do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) {
  expand("embed", stream_, rows_of(out), table, lists_.get(ids), out.rows(), table.width());
}

void GpuBackend::do_dequantise(Tensor out, Tensor raw) {
  Tensor flat = raw;  // one row
  flat.rank = 1;
  flat.row_stride = 0;
  expand("dequantise", stream_, {device_f32(out), 0}, flat, nullptr, 1, raw.count());
}

}  // namespace sonde::SONDE_GPU
