// Causal attention on tensor cores (FlashAttention-2, arXiv:2307.08691): a block takes 64 queries of one
// head, four warps 16 each, and walks the document's keys in tiles; scores S = q k' and z += P v are
// mma.m16n8k16 with bf16 or f16 operands and float sums, the softmax runs online in registers, in powers of
// two.
//
// Ladder: attention.cu's block per query (f32, decode) -> tiles through shared memory -> cp.async double
// buffer, the next tile arrives while this one is multiplied -> ldmatrix without bank conflicts: rows are
// padded by 16 bytes, so that eight of them begin in eight different groups of banks, whatever the head's
// width -> the soft-cap by exp2, and masks only where a tile needs them (each was a branch per score).
// Bytes at least: 2 (H + 2 K) E + 4 H E a token; k and v are read once per 64 queries, from L2. FLOPs: 4 E a
// pair.
#include "kernels/cuda/flash_attention.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kThreads = 128;
constexpr float kLog2e = 1.4426950408889634f;

template <class T, int kE>
struct Tile {
  static constexpr int kKeys =
      kE > 128 ? 32 : 64;                // of a tile: what the registers of wide heads leave room for
  static constexpr int kPitch = kE + 8;  // values from row to row
  static constexpr int kBytes = (kFlashQueries + 4 * kKeys) * kPitch * 2;

  // Rows [first, first + kRows) of a head from global memory, rows from `end` on as zeros.
  template <int kRows>
  static GPU_DEV void fetch(T* to, const T* from, std::int64_t stride, int first, int end) {
    constexpr int kChunks = kE / 8;
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunks; i += kThreads) {
      const int row = i / kChunks, chunk = i % kChunks;
      const bool there = first + row < end;
      cp_async16(to + row * kPitch + chunk * 8, from + (there ? first + row : 0) * stride + chunk * 8, there);
    }
  }
};

// exp2 of a difference from the maximum; exp2(-inf) is 0.
GPU_DEV float power(float x) { return exp2_fast(x); }

// A soft-capped score in powers of two: tanh x is 1 - 2 / (1 + e^2x), off by 1e-7 of the cap at most.
GPU_DEV float capped(float product, const ScoreRule& rule) {
  const float power_of_e = exp2_fast(product * (rule.scale / rule.softcap * 2 * kLog2e));
  return rule.softcap * kLog2e * (1 - __fdividef(2, 1 + power_of_e));
}

// Whether a word of two values holds NaN or infinity: an exponent of ones.
template <class T>
GPU_DEV bool nonfinite(std::uint32_t two) {
  constexpr std::uint32_t kLow = std::is_same_v<T, gpu::bf16> ? 0x7f80u : 0x7c00u, kHigh = kLow << 16;
  return (two & kLow) == kLow || (two & kHigh) == kHigh;
}

// A masked key has weight 0, and 0 x NaN is NaN. So values of a tile that are not finite are added to the
// sums of the rows that see them, and zeros are what is multiplied. Of all threads of the block, or none.
template <class T, int kE>
GPU_DEV void take_out_nonfinite(T* vt, float (&sum)[kE / 8][4], int key0, int own0, int pair,
                                std::int64_t window) {
  constexpr int kKeys = Tile<T, kE>::kKeys, kPitch = Tile<T, kE>::kPitch, kChunks = kE / 8;
  bool found = false;
  for (int i = static_cast<int>(threadIdx.x); i < kKeys * kChunks; i += kThreads) {
    const uint4 v = lds128(vt + i / kChunks * kPitch + i % kChunks * 8);
    found |= nonfinite<T>(v.x) || nonfinite<T>(v.y) || nonfinite<T>(v.z) || nonfinite<T>(v.w);
  }
  if (__syncthreads_or(found) == 0) return;
  for (int k = 0; k < kKeys; ++k)
#pragma unroll
    for (int n = 0; n < kE / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float v = to_float(vt[k * kPitch + n * 8 + pair * 2 + i % 2]);
        const int key = key0 + k, own = own0 + i / 2 * 8;
        const bool seen = key <= own && (window == 0 || key + window > own);
        if (seen && !(fabsf(v) < INFINITY)) sum[n][i] += v;
      }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kKeys * kE; i += kThreads) {
    T& v = vt[i / kE * kPitch + i % kE];
    if (!(fabsf(to_float(v)) < INFINITY)) v = from_float<T>(0.0f);
  }
  __syncthreads();
}

template <class T, int kE>
__global__ void __launch_bounds__(kThreads)
    flash(FlashOperands<T> x, const FlashTask* tasks, ScoreRule rule, bool pairs_of_z_aligned) {
  using Tiles = Tile<T, kE>;
  constexpr int kKeys = Tiles::kKeys, kPitch = Tiles::kPitch;
  GPU_DYN_SMEM(memory);
  T* qs = reinterpret_cast<T*>(memory);
  T* ks = qs + kFlashQueries * kPitch;  // two tiles
  T* vs = ks + 2 * kKeys * kPitch;
  const FlashTask task = tasks[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (x.heads / x.kv_heads);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int group = lane / 4, pair = lane % 4;   // of an mma fragment: its row, its pair of columns
  const int eighth = lane / 8, line = lane % 8;  // of ldmatrix: its matrix, its row there

  const std::int64_t q_stride = std::int64_t{x.heads} * kE, k_stride = std::int64_t{x.kv_heads} * kE;
  const T* q = x.q + task.row * q_stride + head * kE;
  const T* k = x.k + task.key * k_stride + kv_head * kE;
  const T* v = x.v + task.key * k_stride + kv_head * kE;
  const int last_key = task.own + task.rows - 1;  // that any query of the block sees
  const int first_tile = static_cast<int>(first_seen(task.own, rule.window)) / kKeys,
            end_tile = last_key / kKeys + 1;

  Tiles::template fetch<kFlashQueries>(qs, q, q_stride, 0, task.rows);
  Tiles::template fetch<kKeys>(ks, k, k_stride, first_tile * kKeys, last_key + 1);
  Tiles::template fetch<kKeys>(vs, v, k_stride, first_tile * kKeys, last_key + 1);
  cp_async_commit();

  float largest[2] = {-INFINITY, -INFINITY},
        total[2] = {0, 0};  // of rows `group` and `group` + 8 of the warp
  float sum[kE / 8][4];
#pragma unroll
  for (int n = 0; n < kE / 8; ++n)
    for (int i = 0; i < 4; ++i) sum[n][i] = 0;
  const int own0 = task.own + warp * 16 + group;

  for (int tile = first_tile; tile < end_tile; ++tile) {
    const int here = (tile - first_tile) & 1;
    if (tile + 1 < end_tile) {
      const int next = here ^ 1;
      Tiles::template fetch<kKeys>(ks + next * kKeys * kPitch, k, k_stride, (tile + 1) * kKeys, last_key + 1);
      Tiles::template fetch<kKeys>(vs + next * kKeys * kPitch, v, k_stride, (tile + 1) * kKeys, last_key + 1);
    }
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    const T* kt = ks + here * kKeys * kPitch;
    T* vt = vs + here * kKeys * kPitch;
    const bool masks = tile * kKeys + kKeys - 1 > task.own ||
                       (rule.window > 0 && tile * kKeys + rule.window <= last_key);  // keys from some query
    if (masks) take_out_nonfinite<T, kE>(vt, sum, tile * kKeys, own0, pair, rule.window);

    float s[kKeys / 8][4];
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
      for (int i = 0; i < 4; ++i) s[j][i] = 0;
#pragma unroll
    for (int c = 0; c < kE / 16; ++c) {  // 16 values of the head at a time
      std::uint32_t a[4];
      ldmatrix_x4(a, qs + (warp * 16 + eighth % 2 * 8 + line) * kPitch + c * 16 + eighth / 2 * 8);
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        std::uint32_t b[4];
        ldmatrix_x4(b, kt + (j * 8 + eighth / 2 * 8 + line) * kPitch + c * 16 + eighth % 2 * 8);
        mma_16816<T>(s[j], a, b[0], b[1]);
        mma_16816<T>(s[j + 1], a, b[2], b[3]);
      }
    }

    // Scores in powers of two; keys that a query does not see are -inf, where the tile has any.
    if (rule.softcap > 0) {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
        for (int i = 0; i < 4; ++i) s[j][i] = capped(s[j][i], rule);
    } else {
      const float factor = rule.scale * kLog2e;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
        for (int i = 0; i < 4; ++i) s[j][i] *= factor;
    }
    if (masks) {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = tile * kKeys + j * 8 + pair * 2 + i % 2, own = own0 + i / 2 * 8;
          const bool seen = key <= own && (rule.window == 0 || key + rule.window > own);
          if (!seen) s[j][i] = -INFINITY;
        }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = largest[r];
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) most = fmaxf(most, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float shift = most == -INFINITY ? 0.0f : most;  // a row that sees nothing yet
      const float kept = power(largest[r] - shift);
      largest[r] = most;
      total[r] *= kept;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          s[j][i] = power(s[j][i] - shift);
          total[r] += s[j][i];
        }
#pragma unroll
      for (int n = 0; n < kE / 8; ++n) sum[n][2 * r] *= kept, sum[n][2 * r + 1] *= kept;
    }
#pragma unroll
    for (int c = 0; c < kKeys / 16;
         ++c) {  // 16 keys at a time; the scores' fragments are operands as they lie
      const std::uint32_t a[4] = {pack2<T>(s[2 * c][0], s[2 * c][1]), pack2<T>(s[2 * c][2], s[2 * c][3]),
                                  pack2<T>(s[2 * c + 1][0], s[2 * c + 1][1]),
                                  pack2<T>(s[2 * c + 1][2], s[2 * c + 1][3])};
#pragma unroll
      for (int n = 0; n < kE / 8; n += 2) {
        std::uint32_t b[4];
        ldmatrix_x4_trans(b, vt + (c * 16 + eighth % 2 * 8 + line) * kPitch + n * 8 + eighth / 2 * 8);
        mma_16816<T>(sum[n], a, b[0], b[1]);
        mma_16816<T>(sum[n + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();  // before the next tile's copies overwrite what was read here
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float all = total[r];
    all += __shfl_xor_sync(0xffffffffu, all, 1);
    all += __shfl_xor_sync(0xffffffffu, all, 2);
    const int row = warp * 16 + group + r * 8;
    if (row >= task.rows) continue;
    if (x.lse.data != nullptr && pair == 0)
      x.lse.row(task.row + row)[head] = (largest[r] + log2f(all)) / kLog2e;
    float* z = x.z.row(task.row + row) + head * x.e;
#pragma unroll
    for (int n = 0; n < kE / 8; ++n) {
      const int column = n * 8 + pair * 2;
      const float low = sum[n][2 * r] / all, high = sum[n][2 * r + 1] / all;
      if (pairs_of_z_aligned && column + 1 < x.e) {
        stg64(z + column, uint2{__float_as_uint(low), __float_as_uint(high)});
      } else {
        if (column < x.e) z[column] = low;
        if (column + 1 < x.e) z[column + 1] = high;
      }
    }
  }
}

template <class T, int kE>
void launch_flash(Stream& stream, const FlashOperands<T>& x, const FlashTask* tasks, std::int64_t n,
                  const ScoreRule& rule) {
  const bool aligned =
      x.e % 2 == 0 && x.z.stride % 2 == 0 && reinterpret_cast<std::uintptr_t>(x.z.data) % 8 == 0;
  launch("attention", flash<T, kE>, dim3(static_cast<unsigned>(n), static_cast<unsigned>(x.heads)),
         dim3(kThreads), Tile<T, kE>::kBytes, stream, x, tasks, rule, aligned);
}

// kFour: e is a multiple of four and rows can be read so.
template <class T, bool kFour>
__global__ void pack_rows(T* to, Rows from, std::int64_t rows, int heads, int e, int width) {
  constexpr int kStep = kFour ? 4 : 2;
  const int n = heads * width;
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* row = from.row(r);
    for (int i = static_cast<int>(threadIdx.x) * kStep; i < n; i += static_cast<int>(blockDim.x) * kStep) {
      const int head = i / width, at = i - head * width;
      if constexpr (kFour) {
        const float4 v = at < e ? load4(row + head * e + at) : float4{0, 0, 0, 0};
        stg64(to + r * n + i, uint2{pack2<T>(v.x, v.y), pack2<T>(v.z, v.w)});
        continue;
      }
      const float low = at < e ? row[head * e + at] : 0.0f, high = at + 1 < e ? row[head * e + at + 1] : 0.0f;
      *reinterpret_cast<std::uint32_t*>(to + r * n + i) = pack2<T>(low, high);
    }
  }
}

constexpr int kWidths[] = {16, 32, 64, 80, 96, 128, 256};

}  // namespace

int flash_width(std::int64_t e) {
  for (const int width : kWidths)
    if (e <= width) return width;
  return 0;
}

template <class T>
void flash_attention(Stream& stream, const FlashOperands<T>& x, const std::int32_t* list, std::int64_t n,
                     const ScoreRule& rule) {
  const auto* tasks = reinterpret_cast<const FlashTask*>(list);
  switch (flash_width(x.e)) {
    case 16:
      return launch_flash<T, 16>(stream, x, tasks, n, rule);
    case 32:
      return launch_flash<T, 32>(stream, x, tasks, n, rule);
    case 64:
      return launch_flash<T, 64>(stream, x, tasks, n, rule);
    case 80:
      return launch_flash<T, 80>(stream, x, tasks, n, rule);
    case 96:
      return launch_flash<T, 96>(stream, x, tasks, n, rule);
    case 128:
      return launch_flash<T, 128>(stream, x, tasks, n, rule);
    case 256:
      return launch_flash<T, 256>(stream, x, tasks, n, rule);
    default:
      sonde_check(false, "heads of {} values", x.e);
  }
}

template <class T>
void pack_heads(Stream& stream, T* to, Rows from, std::int64_t rows, int heads, int e) {
  const int width = flash_width(e);
  const bool four = e % 4 == 0 && by_float4(from);
  launch("attention", four ? pack_rows<T, true> : pack_rows<T, false>,
         dim3(static_cast<unsigned>(std::min<std::int64_t>(rows, 1 << 20))),
         dim3(threads_for(std::int64_t{heads} * width / (four ? 4 : 2))), 0, stream, to, from, rows, heads, e,
         width);
}

#define SONDE_FLASH(T)                                                                               \
  template void flash_attention(Stream&, const FlashOperands<T>&, const std::int32_t*, std::int64_t, \
                                const ScoreRule&);                                                   \
  template void pack_heads(Stream&, T*, Rows, std::int64_t, int, int);
SONDE_FLASH(gpu::bf16)
SONDE_FLASH(gpu::f16)
#undef SONDE_FLASH

}  // namespace sonde::SONDE_GPU
