// Rotary positions (arXiv:2104.09864): pairs of the first R values of each head turn by position x frequency.
// A pair (a, b) becomes (a cos - b sin, b cos + a sin).
//
// Ladder: angles computed in the kernel -> tables, a row a position -> cos and sin of a pair read once (a
// store between two reads made the compiler read again), neighbours in one access of 8 bytes. Bytes at least:
// 8 a value and the table's rows; they come from L1 for all but a token's first head. 6 FLOPs a pair:
// memory-bound.
#include "kernels/cuda/rope.cuh"

namespace sonde::SONDE_GPU {
namespace {

// Values lo and hi of a row; neighbours in one access where rows allow it.
template <bool kNeighbours>
GPU_DEV float2 load(const float* row, int lo, int hi, bool by_two) {
  if (!kNeighbours || !by_two) return {row[lo], row[hi]};
  const uint2 v = ldg64(row + lo);
  return {__uint_as_float(v.x), __uint_as_float(v.y)};
}
template <bool kNeighbours>
GPU_DEV void store(float* row, int lo, int hi, bool by_two, float2 v) {
  if (kNeighbours && by_two) return stg64(row + lo, uint2{__float_as_uint(v.x), __float_as_uint(v.y)});
  row[lo] = v.x;
  row[hi] = v.y;
}
bool by_float2(const Rows& rows, std::int64_t width) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % 8 == 0 && rows.stride % 2 == 0 && width % 2 == 0;
}

// A block per token, its threads over heads and pairs.
template <bool kNeighbours>
__global__ void rope_rows(Rows y, Rows x, Rows cos, Rows sin, std::int64_t tokens, int heads, int width,
                          int turning, bool by_two) {
  for (std::int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    const float *c = cos.row(t), *s = sin.row(t);
    const int pairs = heads * turning;
    for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
      const int head = i / turning, pair = i - head * turning;
      const int lo = head * width + (kNeighbours ? 2 * pair : pair), hi = kNeighbours ? lo + 1 : lo + turning;
      const float cosine = c[pair], sine = s[pair];
      const float2 v = load<kNeighbours>(x.row(t), lo, hi, by_two);
      store<kNeighbours>(y.row(t), lo, hi, by_two, turned(v.x, v.y, cosine, sine));
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
         rows_of(table.cos, rows), rows_of(table.sin, rows), x.rows(), heads, width, turning,
         by_float2(rows_of(x), width) && by_float2(rows_of(y), width));
}

}  // namespace sonde::SONDE_GPU
