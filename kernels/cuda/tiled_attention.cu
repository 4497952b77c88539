// Causal attention of many queries in float on FMA (online softmax, arXiv:1805.02867; tiles as in
// FlashAttention-2, arXiv:2307.08691): a block takes 64 queries of one head and walks the document's keys in
// tiles of 64, 32 where heads are wide.
//
// Ladder: attention.cu's block per query, which reads every key and value again for each -> tiles in shared
// memory, read once per 64 queries, 4 x 4 scores and 4 rows of sums a thread. Rows in shared memory begin an
// odd number of 16 bytes apart: eight of them lie in eight groups of banks. Bytes at least: 4 (2 H + 2 K) E a
// token; k and v are read once per 64 queries and query head, from L2. FLOPs: 4 E a pair, of which a block
// computes whole tiles. A query's bits depend on its document alone: tiles count from key 0, and one that it
// does not see changes nothing.
#include "kernels/cuda/tiled_attention.h"

#include "kernels/cuda/block.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kThreads = 256, kPer = 4;  // 16 x 16 threads; rows of a thread: ty + 16 i

// Floats from row to row: an odd number of groups of four.
constexpr int pitch_of(int e) { return ((e + 3) / 4 | 1) * 4; }

// Of the weights: the two rows that a warp writes lie in different banks.
constexpr int weights_of(int keys) { return keys + 16; }

// Rows [first, first + n) of a head, those from `end` on and what is behind e as zeros.
GPU_DEV void fetch(float* to, int pitch, const Rows& from, std::int64_t row0, std::int64_t column, int first,
                   int n, int end, int e) {
  const int four = pitch / 4;
  for (int i = static_cast<int>(threadIdx.x); i < n * four; i += kThreads) {
    const int r = i / four, c = i % four * 4;
    float4 v{0, 0, 0, 0};
    if (first + r < end) {
      const float* row = from.row(row0 + first + r) + column;
      if (c + 3 < e && reinterpret_cast<std::uintptr_t>(row + c) % 16 == 0) {
        v = load4(row + c);
      } else {
        v = {c < e ? row[c] : 0.0f, c + 1 < e ? row[c + 1] : 0.0f, c + 2 < e ? row[c + 2] : 0.0f,
             c + 3 < e ? row[c + 3] : 0.0f};
      }
    }
    sts128(to + r * pitch + c,
           uint4{__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)});
  }
}

GPU_DEV float4 shared4(const float* p) {
  const uint4 v = lds128(p);
  return {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)};
}

// Over the 16 threads that share a row, neighbours in a warp.
template <class Op>
GPU_DEV float row_reduce(float value, Op op) {
#pragma unroll
  for (int lanes = 8; lanes > 0; lanes /= 2) value = op(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  return value;
}

// kColumns: groups of 64 values of a head. The widest heads' tiles fill shared memory: one block an SM has
// all registers.
template <int kKeys, int kColumns>
__global__ void __launch_bounds__(kThreads, kColumns > 2 ? 1 : 0)
    attend_tiles(TiledOperands x, const TiledTask* tasks, ScoreRule rule) {
  constexpr int kScores = kKeys / 16;  // a row of a thread: keys tx + 16 j
  constexpr int kWeights = weights_of(kKeys);
  GPU_DYN_SMEM(memory);
  const int e = x.e, pitch = pitch_of(e);
  float* qs = reinterpret_cast<float*>(memory);
  float* ks = qs + kTiledQueries * pitch;
  float* vs = ks + kKeys * pitch;
  float* ps = vs + kKeys * pitch;  // [64, kWeights]
  const TiledTask task = tasks[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  const int tx = thread % 16, ty = thread / 16;
  const std::int64_t kv = std::int64_t{head / (x.heads / x.kv_heads)} * e;
  const int last_key = task.own + task.rows - 1;
  const int first_tile = static_cast<int>(first_seen(task.own, rule.window)) / kKeys;

  fetch(qs, pitch, x.q, task.row, std::int64_t{head} * e, 0, kTiledQueries, task.rows, e);
  float largest[kPer], total[kPer], sum[kPer][kColumns][4];
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    largest[i] = -INFINITY;
    total[i] = 0;
    for (int c = 0; c < kColumns; ++c)
      for (int k = 0; k < 4; ++k) sum[i][c][k] = 0;
  }
  for (int tile = first_tile; tile * kKeys <= last_key; ++tile) {
    fetch(ks, pitch, x.k, task.key, kv, tile * kKeys, kKeys, last_key + 1, e);
    fetch(vs, pitch, x.v, task.key, kv, tile * kKeys, kKeys, last_key + 1, e);
    __syncthreads();
    float s[kPer][kScores] = {};
    for (int c = 0; c < pitch; c += 4) {
      float4 q[kPer], k[kScores];
#pragma unroll
      for (int i = 0; i < kPer; ++i) q[i] = shared4(qs + (ty + 16 * i) * pitch + c);
#pragma unroll
      for (int j = 0; j < kScores; ++j) k[j] = shared4(ks + (tx + 16 * j) * pitch + c);
#pragma unroll
      for (int i = 0; i < kPer; ++i)
#pragma unroll
        for (int j = 0; j < kScores; ++j) {
          s[i][j] = fmaf(q[i].x, k[j].x, s[i][j]);
          s[i][j] = fmaf(q[i].y, k[j].y, s[i][j]);
          s[i][j] = fmaf(q[i].z, k[j].z, s[i][j]);
          s[i][j] = fmaf(q[i].w, k[j].w, s[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int own = task.own + ty + 16 * i;
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        const int key = tile * kKeys + tx + 16 * j;
        const bool seen = key <= own && (rule.window == 0 || key + rule.window > own);
        s[i][j] = seen ? rule(s[i][j]) : -INFINITY;
        most = fmaxf(most, s[i][j]);
      }
      most = row_reduce(most, MaxOf{});
      const float shift = most == -INFINITY ? 0.0f : most;  // a row that sees nothing yet
      const float kept = expf(largest[i] - shift);
      largest[i] = most;
      float mine = 0;
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        const float p = expf(s[i][j] - shift);
        ps[(ty + 16 * i) * kWeights + tx + 16 * j] = p;
        mine += p;
      }
      total[i] = fmaf(total[i], kept, row_reduce(mine, SumOf{}));
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        for (int k = 0; k < 4; ++k) sum[i][c][k] *= kept;
    }
    __syncthreads();
    for (int k = 0; k < kKeys; ++k) {
      float p[kPer];
#pragma unroll
      for (int i = 0; i < kPer; ++i) p[i] = ps[(ty + 16 * i) * kWeights + k];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if (c * 64 + tx * 4 >= pitch) break;
        const float4 v = shared4(vs + k * pitch + c * 64 + tx * 4);
#pragma unroll
        for (int i = 0; i < kPer; ++i)
          if (p[i] != 0) {  // a masked key's value may be NaN
            sum[i][c][0] = fmaf(p[i], v.x, sum[i][c][0]);
            sum[i][c][1] = fmaf(p[i], v.y, sum[i][c][1]);
            sum[i][c][2] = fmaf(p[i], v.z, sum[i][c][2]);
            sum[i][c][3] = fmaf(p[i], v.w, sum[i][c][3]);
          }
      }
    }
    __syncthreads();  // before the next tile overwrites what was read here
  }
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const int row = ty + 16 * i;
    if (row >= task.rows) continue;
    if (x.lse.data != nullptr && tx == 0) x.lse.row(task.row + row)[head] = largest[i] + logf(total[i]);
    float* z = x.z.row(task.row + row) + std::int64_t{head} * e;
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (const int column = c * 64 + tx * 4 + k; column < e) z[column] = sum[i][c][k] / total[i];
  }
}

template <int kKeys, int kColumns>
void launch_tiles(Stream& stream, const TiledOperands& x, const TiledTask* tasks, std::int64_t n,
                  const ScoreRule& rule) {
  const std::size_t floats = static_cast<std::size_t>((kTiledQueries + 2 * kKeys) * pitch_of(x.e)) +
                             static_cast<std::size_t>(kTiledQueries * weights_of(kKeys));
  launch("attention", attend_tiles<kKeys, kColumns>,
         dim3(static_cast<unsigned>(n), static_cast<unsigned>(x.heads)), dim3(kThreads), 4 * floats, stream,
         x, tasks, rule);
}

}  // namespace

void tiled_attention(Stream& stream, const TiledOperands& x, const std::int32_t* list, std::int64_t n,
                     const ScoreRule& rule) {
  const auto* tasks = reinterpret_cast<const TiledTask*>(list);
  if (x.e <= 64) return launch_tiles<64, 1>(stream, x, tasks, n, rule);
  if (x.e <= 128) return launch_tiles<64, 2>(stream, x, tasks, n, rule);
  sonde_check(x.e <= kTiledWidest, "heads of {} values", x.e);
  launch_tiles<32, 4>(stream, x, tasks, n, rule);
}

}  // namespace sonde::SONDE_GPU
