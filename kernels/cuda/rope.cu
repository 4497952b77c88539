// Rotary positions (arXiv:2104.09864): pairs of the first R values of each head turn by position x frequency.
// A pair (a, b) becomes (a cos - b sin, b cos + a sin). Bytes: 8 a value, cos and sin of a token come from L1
// for all but its first head; 6 FLOPs a pair: memory-bound.
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

// A block per token, its threads over heads and pairs.
template <bool kNeighbours>
__global__ void rope_rows(Rows y, Rows x, Rows cos, Rows sin, std::int64_t tokens, int heads, int width,
                          int turning) {
  for (std::int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    const float *c = cos.row(t), *s = sin.row(t);
    const int pairs = heads * turning;
    for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
      const int head = i / turning, pair = i - head * turning;
      const int lo = head * width + (kNeighbours ? 2 * pair : pair), hi = kNeighbours ? lo + 1 : lo + turning;
      const float a = x.row(t)[lo], b = x.row(t)[hi];
      y.row(t)[lo] = fmaf(a, c[pair], -(b * s[pair]));
      y.row(t)[hi] = fmaf(b, c[pair], a * s[pair]);
    }
    const int rest = width - 2 * turning;  // values that don't turn
    if (y.data == x.data || rest == 0) continue;
    for (int i = static_cast<int>(threadIdx.x); i < heads * rest; i += static_cast<int>(blockDim.x)) {
      const int at = i / rest * width + 2 * turning + i % rest;
      y.row(t)[at] = x.row(t)[at];
    }
  }
}

}  // namespace

void GpuBackend::do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table,
                         RopePairs pairs) {
  const std::int32_t* rows = lists_.get(positions);
  const auto heads = static_cast<int>(x.dim(1)), width = static_cast<int>(x.dim(2)),
             turning = static_cast<int>(table.cos.dim(1));
  launch("rope", pairs == RopePairs::halves ? rope_rows<false> : rope_rows<true>,
         dim3(static_cast<unsigned>(std::min<std::int64_t>(x.rows(), 1 << 20))),
         dim3(threads_for(std::int64_t{heads} * turning)), 0, stream_, rows_of(y), rows_of(x),
         rows_of(table.cos, rows), rows_of(table.sin, rows), x.rows(), heads, width, turning);
}

}  // namespace sonde::SONDE_GPU
