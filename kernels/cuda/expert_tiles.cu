// A mixture's products with many rows: y[i] = w_e x[i / s], e = experts[i] (arXiv:2401.04088, equation 2), by
// tiles of rows of one expert (the grouping of arXiv:2211.15841, without its padding in memory). bf16 and f16
// by mma.m16n8k16 with float sums, float by FMA. A row's sums are its own, so neither the order in which rows
// are listed nor the height of a tile shows in their bits.
//
// Ladder: the host sorts rows by expert after a wait for the router, gathers them, and asks cuBLASLt for a
// product each (the CPU's way still, and that of edited choices) -> rows are listed on the device and
// gathered by the copies into shared memory, all experts are one launch -> the weight's tile is shared by
// neighbouring blocks, which take other rows of the same expert: it comes from L2 -> three steps' copies are
// on their way while one step is multiplied -> chunks of 16 bytes change places from row to row, so that
// neither copies nor ldmatrix meet in a bank. Bytes at least: the chosen experts' weights, x and y, once.
// FLOPs: 2 T k N K.
#include "kernels/cuda/expert_tiles.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kListThreads = 256;

__global__ void list_rows_of_experts(Choice choice, int capacity, int* counts, int* lists) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= choice.rows) return;
  const int expert = choice.of(row) - choice.first;
  if (expert < 0 || expert >= choice.n) return;
  lists[std::int64_t{expert} * capacity + atomicAdd(&counts[expert], 1)] = row;
}

__global__ void no_rows(int* counts, int n) {
  const int e = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (e < n) counts[e] = 0;
}

// kRows rows of y times 128 columns (float: 64 x 64), 32 of K at a time in kStages buffers.
template <class T, int kTileRows>
struct Tile {
  static constexpr bool kFloat = sizeof(T) == 4;
  static constexpr int kRows = kTileRows, kColumns = kFloat ? 64 : 128, kDepth = 32;
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T)), kChunks = kDepth / kChunk;
  static constexpr int kThreads = kFloat ? 128 : kRows * 2;
  static constexpr int kStages = kFloat ? 3 : 4;
  static constexpr int kStage = (kRows + kColumns) * kDepth;  // values
  static constexpr int kBytes = kStages * kStage * static_cast<int>(sizeof(T));
  static constexpr int kApart = kThreads / kChunks;  // rows from one copy of a thread to its next
  // Where a chunk lies: eight neighbouring rows have each in another group of banks, and so have the chunks
  // that a row, or two short ones, are written in.
  static GPU_DEV int at(int row, int chunk) {
    return row * kDepth + (chunk ^ (kChunks == 8 ? row & 7 : row >> 1 & 3)) * kChunk;
  }
};

// The expert of a tile and the first of its rows in the list; -1: there are fewer tiles.
struct Found {
  int expert, first;
};
template <int kRows>
GPU_DEV Found find_tile(int tile, const RowsOfExperts& rows) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int before = 0;  // tiles of experts so far
  for (int e0 = 0; e0 < rows.n; e0 += 32) {
    const int own = e0 + lane < rows.n ? (rows.counts[e0 + lane] + kRows - 1) / kRows : 0;
    int up_to = own;  // and with this one
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const int lower = __shfl_up_sync(0xffffffffu, up_to, lanes);
      if (lane >= lanes) up_to += lower;
    }
    const unsigned behind = __ballot_sync(0xffffffffu, before + up_to > tile);
    if (behind != 0) {
      const int its = __ffs(static_cast<int>(behind)) - 1;
      const int first = __shfl_sync(0xffffffffu, before + up_to - own, its);
      return {e0 + its, (tile - first) * kRows};
    }
    before += __shfl_sync(0xffffffffu, up_to, 31);
  }
  return {-1, 0};
}

// A warp's 32 rows x 64 columns, on tensor cores.
template <class Tiles, class T>
struct TensorCores {
  float sum[2][8][4] = {};
  int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  int row0 = warp / 2 * 32, column0 = warp % 2 * 64;

  GPU_DEV void multiply(const T* xs, const T* ws) {
    const int eighth = lane / 8, line = lane % 8;  // of ldmatrix: its matrix, its row there
#pragma unroll
    for (int c = 0; c < Tiles::kDepth; c += 16) {
      std::uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m)
        ldmatrix_x4(a[m], xs + Tiles::at(row0 + m * 16 + eighth % 2 * 8 + line, c / 8 + eighth / 2));
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        std::uint32_t b[4];
        ldmatrix_x4(b, ws + Tiles::at(column0 + j * 8 + eighth / 2 * 8 + line, c / 8 + eighth % 2));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_16816<T>(sum[m][j], a[m], b[0], b[1]);
          mma_16816<T>(sum[m][j + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
  // f(row, column, value, the next column's) for all that this thread has.
  template <class F>
  GPU_DEV void each(const F& f) const {
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int j = 0; j < 8; ++j)
          f(row0 + m * 16 + lane / 4 + r * 8, column0 + j * 8 + lane % 4 * 2, sum[m][j][2 * r],
            sum[m][j][2 * r + 1]);
  }
};

// A thread's 8 rows x 4 columns.
template <class Tiles>
struct Fma {
  float sum[8][4] = {};
  int tx = static_cast<int>(threadIdx.x % 16), ty = static_cast<int>(threadIdx.x / 16);

  GPU_DEV void multiply(const float* xs, const float* ws) {
#pragma unroll 2
    for (int c = 0; c < Tiles::kDepth; c += 4) {
      float4 b[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) b[j] = shared4(ws + Tiles::at(tx + 16 * j, c / 4));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float4 a = shared4(xs + Tiles::at(ty + 8 * i, c / 4));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sum[i][j] = fmaf(a.x, b[j].x, sum[i][j]);
          sum[i][j] = fmaf(a.y, b[j].y, sum[i][j]);
          sum[i][j] = fmaf(a.z, b[j].z, sum[i][j]);
          sum[i][j] = fmaf(a.w, b[j].w, sum[i][j]);
        }
      }
    }
  }
  template <class F>
  GPU_DEV void each(const F& f) const {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) f(ty + 8 * i, tx + 16 * j, sum[i][j]);
  }

 private:
  static GPU_DEV float4 shared4(const float* p) {
    const uint4 v = lds128(p);
    return {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)};
  }
};

// Grid: tiles of rows, of all experts one after the other; tiles of columns.
template <class T, int kTileRows>
__global__ void __launch_bounds__(Tile<T, kTileRows>::kThreads)
    products_of_experts(ExpertOperands<T> o, RowsOfExperts rows, bool pairs_of_y_aligned) {
  using Tiles = Tile<T, kTileRows>;
  constexpr int kRows = Tiles::kRows, kDepth = Tiles::kDepth;
  GPU_DYN_SMEM(memory);
  GPU_SHARED(int[kRows], own);  // rows of y; -1 behind the last
  T* stages = reinterpret_cast<T*>(memory);
  const Found found = find_tile<kRows>(static_cast<int>(blockIdx.x), rows);
  if (found.expert < 0) return;  // the whole block
  const int many = rows.counts[found.expert] - found.first;
  const int* list = rows.lists + std::int64_t{found.expert} * rows.capacity + found.first;
  const int thread = static_cast<int>(threadIdx.x);
  for (int r = thread; r < kRows; r += Tiles::kThreads) own[r] = r < many ? list[r] : -1;
  __syncthreads();

  // A thread's copies: the same chunk of 16 bytes of some rows of x and of w.
  constexpr int kOfX = kRows / Tiles::kApart, kOfW = Tiles::kColumns / Tiles::kApart;
  const int chunk = thread % Tiles::kChunks, line = thread / Tiles::kChunks;
  const std::int64_t column0 = std::int64_t{blockIdx.y} * Tiles::kColumns;
  const T* w = o.weights != nullptr ? o.weights[found.expert] : o.weight;
  const T *from_x[kOfX], *from_w[kOfW];
  bool has_x[kOfX], has_w[kOfW];
#pragma unroll
  for (int i = 0; i < kOfX; ++i) {
    const int row = own[line + i * Tiles::kApart];
    has_x[i] = row >= 0;
    from_x[i] = o.x + (has_x[i] ? row / o.rows_of_one_x : 0) * o.x_stride;
  }
#pragma unroll
  for (int i = 0; i < kOfW; ++i) {
    const std::int64_t column = column0 + line + i * Tiles::kApart;
    has_w[i] = column < o.n;
    from_w[i] = w + (has_w[i] ? column : 0) * o.k;
  }
  const auto fetch = [&](int stage, std::int64_t k0) {
    T* xs = stages + stage * Tiles::kStage;
    T* ws = xs + kRows * kDepth;
    const std::int64_t k1 = k0 + chunk * Tiles::kChunk;
    const bool inside = k1 < o.k;
    const std::int64_t at = inside ? k1 : 0;
#pragma unroll
    for (int i = 0; i < kOfX; ++i)
      cp_async16(xs + Tiles::at(line + i * Tiles::kApart, chunk), from_x[i] + at, inside && has_x[i]);
#pragma unroll
    for (int i = 0; i < kOfW; ++i)
      cp_async16(ws + Tiles::at(line + i * Tiles::kApart, chunk), from_w[i] + at, inside && has_w[i]);
  };

  const int steps = static_cast<int>((o.k + kDepth - 1) / kDepth);
#pragma unroll
  for (int s = 0; s + 1 < Tiles::kStages; ++s) {
    if (s < steps) fetch(s, std::int64_t{s} * kDepth);
    cp_async_commit();
  }
  std::conditional_t<Tiles::kFloat, Fma<Tiles>, TensorCores<Tiles, T>> tile;
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tiles::kStages - 2>();
    __syncthreads();  // this step's copies are there for all, and the buffer of the one before is free
    const int ahead = step + Tiles::kStages - 1;
    if (ahead < steps) fetch(ahead % Tiles::kStages, std::int64_t{ahead} * kDepth);
    cp_async_commit();
    const T* xs = stages + step % Tiles::kStages * Tiles::kStage;
    tile.multiply(xs, xs + kRows * kDepth);
  }

  tile.each([&](int r, int c, float value, auto... next) {
    const std::int64_t column = column0 + c;
    if (r >= many || column >= o.n) return;
    float* y = o.y.row(own[r]) + column;
    if constexpr (sizeof...(next) > 0)
      if (pairs_of_y_aligned && column + 1 < o.n)
        return stg64(y, uint2{__float_as_uint(value), __float_as_uint(next)...});
    y[0] = value;
    if constexpr (sizeof...(next) > 0)
      if (column + 1 < o.n) y[1] = (next, ...);
  });
}

template <class T, int kRows>
void launch_tiles(Stream& stream, const ExpertOperands<T>& o, const RowsOfExperts& rows) {
  using Tiles = Tile<T, kRows>;
  const bool pairs = o.y.stride % 2 == 0 && reinterpret_cast<std::uintptr_t>(o.y.data) % 8 == 0;
  const std::int64_t most = rows.n == 1 ? (o.rows + kRows - 1) / kRows : o.rows / kRows + rows.n;
  const dim3 grid(static_cast<unsigned>(most),
                  static_cast<unsigned>((o.n + Tiles::kColumns - 1) / Tiles::kColumns));
  launch("linear_by_expert", products_of_experts<T, kRows>, grid, dim3(Tiles::kThreads), Tiles::kBytes,
         stream, o, rows, pairs);
}

}  // namespace

RowsOfExperts list_rows(Stream& stream, const Choice& choice, int tokens, int* memory) {
  const auto blocks = [](int n) {
    return dim3(static_cast<unsigned>((n + kListThreads - 1) / kListThreads));
  };
  launch("linear_by_expert", no_rows, blocks(choice.n), dim3(kListThreads), 0, stream, memory, choice.n);
  launch("linear_by_expert", list_rows_of_experts, blocks(choice.rows), dim3(kListThreads), 0, stream, choice,
         tokens, memory, memory + choice.n);
  return {memory, memory + choice.n, choice.n, tokens};
}

template <class T>
void expert_tiles(Stream& stream, const ExpertOperands<T>& o, const RowsOfExperts& rows) {
  if constexpr (sizeof(T) == 4)
    launch_tiles<T, 64>(stream, o, rows);
  else if (o.rows >= std::int64_t{128} * rows.n)  // tiles that an expert fills
    launch_tiles<T, 128>(stream, o, rows);
  else
    launch_tiles<T, 64>(stream, o, rows);
}
template void expert_tiles(Stream&, const ExpertOperands<float>&, const RowsOfExperts&);
template void expert_tiles(Stream&, const ExpertOperands<gpu::bf16>&, const RowsOfExperts&);
template void expert_tiles(Stream&, const ExpertOperands<gpu::f16>&, const RowsOfExperts&);

}  // namespace sonde::SONDE_GPU
