// Cholesky a = L L' in float64, lower triangle, and the solution of L L' x = y (Golub and Van Loan, 4.2).
//
// Ladder: a column at a time -> 64 columns at a time: one block factors the diagonal block in shared memory,
// blocks of 64 rows solve the panel below it, tiles of 64 x 64 subtract the panel's product from the rest.
// FLOPs: N^3 / 3, nearly all in the tiles. Bytes: each step reads and writes what remains, 16 N^3 / (3 * 64)
// / 2 in all. The solution reads L twice, a block per right-hand side.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/double_tile.cuh"
#include "kernels/cuda/probe_ops.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kBlock = kTileSide, kPitch = kBlock + 1;  // + 1: rows begin in different banks
constexpr int kDepth = kTileDepth, kPer = kTilePer;

// What a pivot must exceed; and the mark of failure is cleared.
__global__ void pivot_floors(double* floors, int* failed, const double* a, std::int64_t N,
                             double relative_pivot) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i == 0) *failed = 0;
  if (i < N) floors[i] = fmax(0.0, relative_pivot * a[i * N + i]);
}

// The [k, k] block at `a`, whose rows are N apart.
__global__ void factor_diagonal(double* a, std::int64_t N, int k, const double* floors, int* failed) {
  GPU_SHARED(double[kBlock * kPitch], l);
  const int thread = static_cast<int>(threadIdx.x);
  if (*failed != 0) return;
  for (int i = thread; i < k * k; i += 256) l[i / k * kPitch + i % k] = a[i / k * N + i % k];
  __syncthreads();
  for (int j = 0; j < k; ++j) {
    const double pivot = l[j * kPitch + j];
    if (!(pivot > floors[j])) {  // of all threads, or none
      if (thread == 0) *failed = 1;
      return;
    }
    __syncthreads();
    for (int i = j + thread; i < k; i += 256)
      l[i * kPitch + j] = i == j ? sqrt(pivot) : l[i * kPitch + j] / sqrt(pivot);
    __syncthreads();
    const int rest = k - j - 1;
    for (int e = thread; e < rest * rest; e += 256) {
      const int r = j + 1 + e / rest, c = j + 1 + e % rest;
      if (c <= r) l[r * kPitch + c] -= l[r * kPitch + j] * l[c * kPitch + j];
    }
    __syncthreads();
  }
  for (int i = thread; i < k * k; i += 256)
    if (i % k <= i / k) a[i / k * N + i % k] = l[i / k * kPitch + i % k];
}

// panel <- panel L^-T, 64 rows a block, a thread each; the panel lies below the diagonal block.
__global__ void solve_panel(double* panel, const double* diagonal, std::int64_t N, int k, std::int64_t rows,
                            const int* failed) {
  GPU_DYN_SMEM(memory);
  double* l = reinterpret_cast<double*>(memory);  // [k, pitch]
  double* x = l + kBlock * kPitch;                // [64 rows, pitch]
  if (*failed != 0) return;
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t row0 = std::int64_t{blockIdx.x} * kBlock;
  const int here = static_cast<int>(rows - row0 < kBlock ? rows - row0 : kBlock);
  for (int i = thread; i < k * k; i += kBlock) l[i / k * kPitch + i % k] = diagonal[i / k * N + i % k];
  for (int i = thread; i < here * k; i += kBlock)
    x[i / k * kPitch + i % k] = panel[(row0 + i / k) * N + i % k];
  __syncthreads();
  if (thread < here) {
    double* row = x + thread * kPitch;
    for (int j = 0; j < k; ++j) {
      double value = row[j];
      for (int t = 0; t < j; ++t) value -= row[t] * l[j * kPitch + t];
      row[j] = value / l[j * kPitch + j];
    }
  }
  __syncthreads();
  for (int i = thread; i < here * k; i += kBlock)
    panel[(row0 + i / k) * N + i % k] = x[i / k * kPitch + i % k];
}

// rest -= panel panel', the lower triangle of it; panel [rows, 64].
__global__ void subtract_product(double* rest, const double* panel, std::int64_t N, std::int64_t rows,
                                 const int* failed) {
  GPU_SHARED(double[kDepth][kPitch], as);
  GPU_SHARED(double[kDepth][kPitch], bs);
  if (*failed != 0) return;
  const std::int64_t row0 = std::int64_t{blockIdx.y} * kBlock, column0 = std::int64_t{blockIdx.x} * kBlock;
  if (column0 > row0) return;
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;
  double sum[kPer][kPer] = {};
  for (int k0 = 0; k0 < kBlock; k0 += kDepth) {
    for (int i = thread; i < kBlock * kDepth; i += 256) {
      const int r = i / kDepth, d = i % kDepth;
      as[d][r] = row0 + r < rows ? panel[(row0 + r) * N + k0 + d] : 0.0;
      bs[d][r] = column0 + r < rows ? panel[(column0 + r) * N + k0 + d] : 0.0;
    }
    __syncthreads();
    add_tile_product(sum, as, bs, ty, tx);
    __syncthreads();
  }
  for (int p = 0; p < kPer; ++p)
    for (int q = 0; q < kPer; ++q) {
      const std::int64_t r = row0 + ty + 16 * p, c = column0 + tx + 16 * q;
      if (r < rows && c <= r) rest[r * N + c] -= sum[p][q];
    }
}

// A block per right-hand side, 64 unknowns at a time: what the solved ones contribute, then the triangle.
__global__ void solve_columns(double* x, const double* l, std::int64_t N) {
  GPU_SHARED(double[kBlock], part);
  GPU_SHARED(double[16][kBlock], sums);
  double* y = x + blockIdx.x * N;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  for (std::int64_t first = 0; first < N; first += kBlock) {  // L y = x
    const int k = static_cast<int>(N - first < kBlock ? N - first : kBlock);
    for (int r = warp; r < k; r += 32) {
      const double* row = l + (first + r) * N;
      double sum = 0;
      for (std::int64_t j = lane; j < first; j += 32) sum += row[j] * y[j];
      sum = warp_reduce(sum, SumOf{});
      if (lane == 0) part[r] = y[first + r] - sum;
    }
    __syncthreads();
    for (int j = 0; j < k; ++j) {
      if (thread == 0) part[j] /= l[(first + j) * N + first + j];
      __syncthreads();
      if (thread > j && thread < k) part[thread] -= l[(first + thread) * N + first + j] * part[j];
      __syncthreads();
    }
    if (thread < k) y[first + thread] = part[thread];
    __syncthreads();
  }
  for (std::int64_t first = (N - 1) / kBlock * kBlock; first >= 0; first -= kBlock) {  // L' x = y
    const int k = static_cast<int>(N - first < kBlock ? N - first : kBlock);
    const int column = thread % kBlock, group = thread / kBlock;  // 16 groups share the rows below
    double sum = 0;
    if (column < k)
      for (std::int64_t i = first + kBlock + group; i < N; i += 16) sum += l[i * N + first + column] * y[i];
    sums[group][column] = sum;
    __syncthreads();
    if (thread < k) {
      double all = 0;
      for (int g = 0; g < 16; ++g) all += sums[g][thread];
      part[thread] = y[first + thread] - all;
    }
    __syncthreads();
    for (int j = k - 1; j >= 0; --j) {
      if (thread == 0) part[j] /= l[(first + j) * N + first + j];
      __syncthreads();
      if (thread < j) part[thread] -= l[(first + j) * N + first + thread] * part[j];
      __syncthreads();
    }
    if (thread < k) y[first + thread] = part[thread];
    __syncthreads();
  }
}

}  // namespace

bool GpuProbeOps::do_cholesky(std::span<double> host, std::int64_t N, double relative_pivot) {
  auto* a = const_cast<double*>(place(matrix_, std::span<const double>(host)));
  double* floors = room<double>(vectors_, N + 1);
  int* failed = reinterpret_cast<int*>(floors + N);
  launch("cholesky", pivot_floors, dim3(static_cast<unsigned>((N + 127) / 128)), dim3(128), 0, stream_,
         floors, failed, a, N, relative_pivot);
  for (std::int64_t first = 0; first < N; first += kBlock) {
    const int k = static_cast<int>(std::min<std::int64_t>(kBlock, N - first));
    const std::int64_t below = first + k, rows = N - below;
    double *diagonal = a + first * N + first, *panel = a + below * N + first, *rest = a + below * N + below;
    const auto blocks = static_cast<unsigned>((rows + kBlock - 1) / kBlock);
    launch("cholesky", factor_diagonal, dim3(1), dim3(256), 0, stream_, diagonal, N, k, floors + first,
           failed);
    launch("cholesky", solve_panel, dim3(blocks), dim3(kBlock), 2 * kBlock * kPitch * sizeof(double), stream_,
           panel, diagonal, N, k, rows, failed);
    launch("cholesky", subtract_product, dim3(blocks, blocks), dim3(256), 0, stream_, rest, panel, N, rows,
           failed);
  }
  int bad = 0;
  check(cudaMemcpyAsync(&bad, failed, sizeof bad, cudaMemcpyDeviceToHost, stream_), "copying to the host");
  wait();
  if (bad != 0) return false;
  download(host, a);
  wait();
  return true;
}

void GpuProbeOps::do_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) {
  const double* factor = place(matrix_, l);
  auto* there = const_cast<double*>(place(vectors_, std::span<const double>(x)));
  launch("cholesky", solve_columns, dim3(static_cast<unsigned>(static_cast<std::int64_t>(x.size()) / N)),
         dim3(1024), 0, stream_, there, factor, N);
  download(x, there);
  wait();
}

}  // namespace sonde::SONDE_GPU
