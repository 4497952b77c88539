// Queries and keys on their way to attention: y = (x - mean) / scale * weight of each head's E values, as
// norm.cu, then pairs of the first R values turn by the token's angles (RoPE, arXiv:2104.09864). The same
// operations in the same order as the norm of heads, which is this without angles, and rope.
//
// Ladder: norms of q and k by a block per head, rope of q and of k: four kernels, each value through DRAM
// twice -> a warp per head of either, the sum over shuffles, one kernel. The second read of a head (512 bytes
// at E = 128) comes from L1. Bytes at least: 8 a value and the table's rows, which come from L1 for all but a
// token's first head. FLOPs: 4 a value for the norm, 3 for the turn: memory-bound.
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/rope.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kWarps = 4;  // of a block, a head each

struct Heads {
  Rows y, x;  // y may be x
  int heads;
  const float* weight;         // null: no norm
  std::int64_t weight_stride;  // from head to head; 0: one for all
  bool by_four;                // rows, weights and heads
};
struct HeadsTask {
  Heads q, k;  // k may have no heads
  int width;
  Rows cos, sin;
  int turning;         // pairs; 0: none
  bool turns_by_four;  // so may the pairs and their tables
  bool layer;
  float eps;
  std::int64_t tokens;
};

// Columns of a head after its norm.
template <bool kFour>
struct Normed {
  const float *x, *weight;
  Moments m;
  template <bool kWide = kFour>
  GPU_DEV float4 at(int c) const {
    const float4 v = load<kWide>(x + c);
    return weight == nullptr ? v : affine_of<kWide>(normalized_of<kWide>(v, m), weight + c, nullptr);
  }
};

template <bool kNeighbours>
GPU_DEV void turn_by_four(float* y, const Normed<true>& x, const float* cos, const float* sin, int turning,
                          int lane) {
  for (int c = 4 * lane; c < (kNeighbours ? 2 * turning : turning); c += 128) {
    if constexpr (kNeighbours) {
      const float4 v = x.at(c);
      const uint2 cs = ldg64(cos + c / 2), sn = ldg64(sin + c / 2);
      const float2 a = turned(v.x, v.y, __uint_as_float(cs.x), __uint_as_float(sn.x));
      const float2 b = turned(v.z, v.w, __uint_as_float(cs.y), __uint_as_float(sn.y));
      store4(y + c, {a.x, a.y, b.x, b.y});
    } else {
      const float4 lo = x.at(c), hi = x.at(c + turning), cs = load4(cos + c), sn = load4(sin + c);
      const float2 p = turned(lo.x, hi.x, cs.x, sn.x), q = turned(lo.y, hi.y, cs.y, sn.y),
                   r = turned(lo.z, hi.z, cs.z, sn.z), s = turned(lo.w, hi.w, cs.w, sn.w);
      store4(y + c, {p.x, q.x, r.x, s.x});
      store4(y + c + turning, {p.y, q.y, r.y, s.y});
    }
  }
}

template <bool kFour, bool kNeighbours>
GPU_DEV void norm_and_turn(const HeadsTask& task, const Heads& heads, std::int64_t t, int head) {
  const int lane = static_cast<int>(threadIdx.x) % 32, turning = task.turning;
  const float* x = heads.x.row(t) + head * task.width;
  float* y = heads.y.row(t) + head * task.width;
  Normed<kFour> normed{x, heads.weight == nullptr ? nullptr : heads.weight + head * heads.weight_stride, {}};
  if (normed.weight != nullptr)
    normed.m = moments_of<kFour>(x, task.width, task.layer, task.eps, static_cast<unsigned>(lane), 32,
                                 [](float v) { return warp_reduce(v, SumOf{}); });
  __syncwarp();  // all lanes have read what others overwrite
  const float *cos = task.cos.row(t), *sin = task.sin.row(t);
  bool turned_all = turning == 0;
  if constexpr (kFour) {
    if (turning > 0 && task.turns_by_four) {
      turn_by_four<kNeighbours>(y, normed, cos, sin, turning, lane);
      turned_all = true;
    }
  }
  for (int p = lane; !turned_all && p < turning; p += 32) {
    const int lo = kNeighbours ? 2 * p : p, hi = kNeighbours ? lo + 1 : lo + turning;
    const float2 v = turned(normed.template at<false>(lo).x, normed.template at<false>(hi).x, cos[p], sin[p]);
    y[lo] = v.x;
    y[hi] = v.y;
  }
  if (normed.weight == nullptr && y == x) return;  // the rest stays as it is
  const int first = 2 * turning, rest = task.width - first;
  const auto thread = static_cast<unsigned>(lane);
  if (kFour && first % 4 == 0)
    each_column<kFour>(rest, thread, 32, [&](std::int64_t c) {
      store<kFour>(y + first + c, normed.at(first + static_cast<int>(c)));
    });
  else
    each_column<false>(rest, thread, 32, [&](std::int64_t c) {
      y[first + c] = normed.template at<false>(first + static_cast<int>(c)).x;
    });
}

// Bounds: 64 registers, half of all warps (else the compiler takes 105 to unroll what loops once).
template <bool kNeighbours>
__global__ void __launch_bounds__(32 * kWarps, 8) norm_and_turn_heads(HeadsTask task) {
  const int i = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32);
  if (i >= task.q.heads + task.k.heads) return;
  const bool of_q = i < task.q.heads;
  const Heads& heads = of_q ? task.q : task.k;
  const int head = of_q ? i : i - task.q.heads;
  for (std::int64_t t = blockIdx.y; t < task.tokens; t += gridDim.y)
    if (heads.by_four)
      norm_and_turn<true, kNeighbours>(task, heads, t, head);
    else
      norm_and_turn<false, kNeighbours>(task, heads, t, head);
}

Heads heads_of(Tensor y, Tensor x, Tensor weight) {
  const std::int64_t e = x.dim(2);
  const float* w = weight.empty() ? nullptr : device_f32(weight);
  return {rows_of(y),
          rows_of(x),
          static_cast<int>(x.dim(1)),
          w,
          weight.empty() || weight.dim(0) == 1 ? 0 : e,
          four(e, {rows_of(y), rows_of(x)}) && four(e, w, nullptr)};
}

void launch_heads(const char* name, Stream& stream, const HeadsTask& task, RopePairs pairs) {
  const int heads = task.q.heads + task.k.heads;
  launch(name, pairs == RopePairs::halves ? norm_and_turn_heads<false> : norm_and_turn_heads<true>,
         dim3(static_cast<unsigned>((heads + kWarps - 1) / kWarps), grid_rows(task.tokens)),
         dim3(32 * kWarps), 0, stream, task);
}

}  // namespace

void GpuBackend::do_norm_heads(NormKind kind, Tensor y, Tensor x, Tensor weight, float eps) {
  launch_heads("norm_heads", stream_,
               {heads_of(y, x, weight),
                {},
                static_cast<int>(x.dim(2)),
                {},
                {},
                0,
                false,
                kind == NormKind::layer,
                eps,
                x.rows()},
               RopePairs::halves);
}

void GpuBackend::do_qk_norm_rope(NormKind kind, Tensor q, Tensor k, Tensor q_weight, Tensor k_weight,
                                 float eps, std::span<const std::int32_t> positions, const RopeTable& table,
                                 RopePairs pairs) {
  const std::int32_t* rows = lists_.get(positions);
  const Rows cos = rows_of(table.cos, rows), sin = rows_of(table.sin, rows);
  const auto turning = static_cast<int>(table.cos.dim(1));
  launch_heads(
      "qk_norm_rope", stream_,
      {heads_of(q, q, q_weight), heads_of(k, k, k_weight), static_cast<int>(q.dim(2)), cos, sin, turning,
       turning % 4 == 0 && by_float4(cos) && by_float4(sin), kind == NormKind::layer, eps, q.rows()},
      pairs);
}

}  // namespace sonde::SONDE_GPU
