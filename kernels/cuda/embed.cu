// Rows of a table, and whole tensors, from any storage type to f32. Bytes at least: the stored ones once and
// 4 written a value; 1 or 2 FLOPs a value: memory-bound.
//
// Ladder: a byte at a time, eight values a thread (lanes wrote 32 bytes apart: an eighth of each sector) ->
// blocks by way of shared memory, 16 bytes a lane, four values a thread.
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kWarps = 4;

// Row r of `out` from row index[r] of raw, row_bytes apart.
struct Table {
  const Byte* raw;
  std::int64_t row_bytes;
  const std::int32_t* index;
  const Byte* end;
  GPU_DEV const Byte* row(std::int64_t r) const {
    return raw + (index != nullptr ? index[r] : r) * row_bytes;
  }
};

GPU_DEV void store(float* to, const float (&y)[4], bool aligned) {
  if (aligned) return store4(to, float4{y[0], y[1], y[2], y[3]});
  for (int j = 0; j < 4; ++j) to[j] = y[j];
}

// Blocks: a warp takes a span of a row.
template <class Format>
__global__ void expand_blocks(Rows out, Table table, std::int64_t rows, std::int64_t width, bool aligned) {
  GPU_SHARED(uint4[kWarps][kSpanWords<Format>], staged);
  const std::int64_t apart = std::int64_t{gridDim.x} * kWarps * kSpan;
  const int warp = static_cast<int>(threadIdx.x / 32);
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y)
    for (std::int64_t c = (std::int64_t{blockIdx.x} * kWarps + warp) * kSpan; c < width; c += apart) {
      const int span = width - c < kSpan ? static_cast<int>(width - c) : kSpan;
      const Byte* blocks = stage(staged[warp], table.row(r) + c / Format::kValues * Format::kBytes,
                                 span / Format::kValues * Format::kBytes, table.end);
      for (int at = static_cast<int>(threadIdx.x % 32) * 4; at < span; at += 128) {
        float y[4];
        Format::four(y, blocks + at / Format::kValues * Format::kBytes, at % Format::kValues);
        store(out.row(r) + c + at, y, aligned);
      }
      __syncwarp();  // before the next span
    }
}

// Plain types, four values a thread where rows allow it.
template <class Format, bool kFour>
__global__ void expand_values(Rows out, Table table, std::int64_t rows, std::int64_t width) {
  constexpr int kStep = kFour ? 4 : 1;
  for (std::int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const Byte* from = table.row(r);
    float* to = out.row(r);
    for (std::int64_t c = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kStep; c < width;
         c += std::int64_t{gridDim.x} * blockDim.x * kStep) {
      if constexpr (kFour) {
        float y[4];
        Format::four(y, from + c * Format::kBytes);
        store(to + c, y, true);
      } else {
        to[c] = Format::one(from + c * Format::kBytes);
      }
    }
  }
}

dim3 grid_of(std::int64_t items, std::int64_t of_a_block, std::int64_t rows) {
  return dim3(static_cast<unsigned>(std::min<std::int64_t>((items + of_a_block - 1) / of_a_block, 4096)),
              grid_rows(rows));
}

// rows of `width` values; the table's last byte is the one before `end`.
void expand(const char* name, Stream& stream, Rows out, DType dtype, const Table& table, std::int64_t rows,
            std::int64_t width) {
  with_format(dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (Format::kValues > 1) {
      launch(name, expand_blocks<Format>, grid_of(width, kWarps * kSpan, rows), dim3(32 * kWarps), 0, stream,
             out, table, rows, width, by_float4(out));
    } else {
      constexpr bool kWide = Format::kBytes == 2 || Format::kBytes == 4;
      const bool four = kWide && width % 4 == 0 && by_float4(out) &&
                        table.row_bytes % (4 * Format::kBytes) == 0 &&
                        reinterpret_cast<std::uintptr_t>(table.raw) % (4 * Format::kBytes) == 0;
      const std::int64_t items = four ? width / 4 : width;
      const unsigned threads = threads_for(items);
      launch(name, four ? expand_values<Format, kWide> : expand_values<Format, false>,
             grid_of(items, threads, rows), dim3(threads), 0, stream, out, table, rows, width);
    }
  });
}

}  // namespace

void GpuBackend::do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) {
  const auto* raw = device_data<const Byte>(table);
  const std::int64_t row = bytes_of(table.dtype, table.row_stride);
  const Byte* end = raw + (table.rows() - 1) * row + bytes_of(table.dtype, table.width());
  expand("embed", stream_, rows_of(out), table.dtype, {raw, row, lists_.get(ids), end}, out.rows(),
         table.width());
}

void GpuBackend::do_dequantise(Tensor out, Tensor raw) {  // one row
  const auto* bytes = device_data<const Byte>(raw);
  expand("dequantise", stream_, {device_f32(out), 0}, raw.dtype,
         {bytes, 0, nullptr, bytes + bytes_of(raw.dtype, raw.count())}, 1, raw.count());
}

}  // namespace sonde::SONDE_GPU
