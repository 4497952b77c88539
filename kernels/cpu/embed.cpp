// Rows of a table, and whole tensors, from any storage type to f32.
#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/dequantise_blocks.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) {
  const std::int64_t width = table.width(), tokens = static_cast<std::int64_t>(ids.size());
  const auto row = [&](std::int64_t t) {
    const std::byte* from =
        table.data + bytes_of(table.dtype, ids[static_cast<std::size_t>(t)] * table.row_stride);
    dequantise_blocks(out.row(t), from, table.dtype, width);
  };
  if (tokens == 0) return;
  row(0);  // alone first: a type that cannot be read throws here, outside the parallel region
  parallel_rows(tokens - 1, width, [&](std::int64_t t) { row(t + 1); });
}

void CpuBackend::do_dequantise(Tensor out, Tensor raw) {
  constexpr std::int64_t kChunk = 1 << 14;  // a multiple of every block
  const std::int64_t n = raw.count();
  const auto chunk = [&](std::int64_t i) {
    const std::int64_t first = i * kChunk;
    dequantise_blocks(out.f32() + first, raw.data + bytes_of(raw.dtype, first), raw.dtype,
                      std::min(kChunk, n - first));
  };
  if (n == 0) return;
  chunk(0);
  parallel_rows((n - 1) / kChunk, kChunk, [&](std::int64_t i) { chunk(i + 1); });
}

}  // namespace sonde::cpu
