// X'WX in float64 of float32 rows, seen as x - shift: the lower triangle in tiles of 64 x 64, mirrored at the
// end.
//
// Ladder: a thread per entry -> tiles through shared memory, 4 x 4 entries a thread, 16 rows a step -> where
// tiles are fewer than a GPU has places for blocks, rows of a slab are shared out, too, and sums join in
// order. Bytes at least: 4 n D and 8 D^2; tiles read rows D / 64 times, from L2 while a slab of 16 MiB lasts.
// FLOPs: n D^2, by FMA (float64 tensor cores would give twice that).
#include "kernels/cuda/double_tile.cuh"
#include "kernels/cuda/probe_ops.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kTile = kTileSide, kDepth = kTileDepth, kPer = kTilePer;

// Tile number t of the lower triangle, counted row by row.
struct TilePlace {
  std::int64_t row, column;
  explicit GPU_DEV TilePlace(std::int64_t t) : row(0) {
    while ((row + 1) * (row + 2) / 2 <= t) ++row;
    column = t - row * (row + 1) / 2;
  }
};

// partial[split, D, D] += the tile's sums over the split's rows
__global__ void gram_tiles(double* partial, Rows x, const double* shift, const double* weights,
                           std::int64_t chunk, std::int64_t n, std::int64_t D) {
  GPU_SHARED(double[kDepth][kTile], as);
  GPU_SHARED(double[kDepth][kTile], bs);
  const TilePlace tile(blockIdx.x);
  const std::int64_t row0 = tile.row * kTile, column0 = tile.column * kTile, split = blockIdx.y;
  const std::int64_t end = (split + 1) * chunk < n ? (split + 1) * chunk : n;
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;
  double sum[kPer][kPer] = {};
  for (std::int64_t i0 = split * chunk; i0 < end; i0 += kDepth) {
    for (int k = thread; k < kDepth * kTile; k += 256) {
      const int d = k / kTile, c = k % kTile;
      const std::int64_t i = i0 + d, a = row0 + c, b = column0 + c;
      double weighted = 0, plain = 0;
      if (i < end) {
        const float* row = x.row(i);
        if (a < D)
          weighted = (static_cast<double>(row[a]) - shift[a]) * (weights == nullptr ? 1.0 : weights[i]);
        if (b < D) plain = static_cast<double>(row[b]) - shift[b];
      }
      as[d][c] = weighted;
      bs[d][c] = plain;
    }
    __syncthreads();
    add_tile_product(sum, as, bs, ty, tx);
    __syncthreads();
  }
  for (int p = 0; p < kPer; ++p)
    for (int q = 0; q < kPer; ++q) {
      const std::int64_t r = row0 + ty + 16 * p, c = column0 + tx + 16 * q;
      if (r < D && c <= r) partial[(split * D + r) * D + c] += sum[p][q];
    }
}

// The splits' sums, in both triangles.
__global__ void join_gram(double* gram, const double* partial, std::int64_t splits, std::int64_t D) {
  for (std::int64_t r = blockIdx.y; r < D; r += gridDim.y)
    for (std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; c < D;
         c += std::int64_t{gridDim.x} * blockDim.x) {
      const std::int64_t low = c <= r ? r * D + c : c * D + r;
      double sum = 0;
      for (std::int64_t split = 0; split < splits; ++split) sum += partial[split * D * D + low];
      gram[r * D + c] = sum;
    }
}

}  // namespace

void GpuProbeOps::do_gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) {
  const std::int64_t D = x.D, side = (D + kTile - 1) / kTile, tiles = side * (side + 1) / 2;
  const ProbeCut cut(D, 1);
  std::int64_t splits = std::clamp<std::int64_t>(512 / tiles, 1, std::min<std::int64_t>(16, cut.slab / 64));
  const std::int64_t chunk = (cut.slab + splits - 1) / splits;
  place(shift_, x.shift);
  double *partial = zeros(partial_, splits * D * D), *out = room<double>(matrix_, D * D);
  for_slabs(x, cut.slab, [&](const Slab& slab) {
    const double* w = nullptr;
    if (!weights.empty())
      w = place(given_,
                weights.subspan(static_cast<std::size_t>(slab.first), static_cast<std::size_t>(slab.n)));
    launch("probe gram", gram_tiles,
           dim3(static_cast<unsigned>(tiles), static_cast<unsigned>((slab.n + chunk - 1) / chunk)), dim3(256),
           0, stream_, partial, slab.x, reinterpret_cast<const double*>(shift_.data()), w, chunk, slab.n, D);
  });
  launch("probe gram", join_gram, dim3(static_cast<unsigned>((D + 127) / 128), grid_rows(D)), dim3(128), 0,
         stream_, out, partial, splits, D);
  download(gram, out);
  wait();
}

}  // namespace sonde::SONDE_GPU
