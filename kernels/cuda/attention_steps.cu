// Attention in the steps that hooks see: scores s_j = rule(q k_j), pattern softmax(s), weighted values
// sum_j p_j v_j (arXiv:1706.03762).
//
// Ladder: a thread per key, 32 rows of k at a time, an eighth of each sector wanted -> eight lanes a key
// (keys.cuh). Bytes at least: the T x H x S tensor once written by scores, read and written by softmax, read
// by apply; q, k, v, z once. k and v are read for each query, from L1 and L2: where no hook looks,
// attention.cu and flash_attention.cu run instead. FLOPs: 4 E a pair.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/heads.h"
#include "kernels/cuda/keys.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

// Warps over keys, 32 at a time; the query in shared memory.
__global__ void score_keys(Rows scores, Rows q, Rows k, QueryLists queries, ScoreRule rule, int group, int e,
                           std::int64_t s, bool by_four) {
  GPU_DYN_SMEM(memory);
  float* query = reinterpret_cast<float*>(memory);
  const std::int64_t t = blockIdx.x, head = blockIdx.y, own = queries.own[t], first = queries.first[t];
  for (int i = static_cast<int>(threadIdx.x); i < e; i += static_cast<int>(blockDim.x))
    query[i] = q.row(t)[head * e + i];
  __syncthreads();
  float* out = scores.row(t) + head * s;
  const std::int64_t from = first_seen(own, rule.window);
  for (std::int64_t of_warp = threadIdx.x / 32 * 32; of_warp < s; of_warp += blockDim.x) {
    const std::int64_t key = of_warp + threadIdx.x % 32;
    float product = 0;
    if (of_warp <= own && of_warp + 32 > from)  // the whole warp
      product = products_of_keys(query, k, first + of_warp, own + 1 - of_warp, head / group * e, e, by_four);
    if (key < s) out[key] = key >= from && key <= own ? rule(product) : -INFINITY;
  }
}

// A block per row of S; a row of -inf alone becomes zeros: an edit masked every key.
__global__ void softmax_rows(Rows y, Rows x, std::int64_t rows, std::int64_t heads, std::int64_t s) {
  GPU_SHARED(float[32], shared);
  for (std::int64_t i = blockIdx.x; i < rows * heads; i += gridDim.x) {
    const std::int64_t t = i / heads, at = (i - t * heads) * s;
    const float* from = x.row(t) + at;
    float* to = y.row(t) + at;
    float largest = -INFINITY, sum = 0;
    for (std::int64_t c = threadIdx.x; c < s; c += blockDim.x) largest = fmaxf(largest, from[c]);
    largest = block_reduce(largest, shared, MaxOf{});
    const bool masked = largest == -INFINITY;
    for (std::int64_t c = threadIdx.x; c < s; c += blockDim.x) {
      const float p = masked ? 0.0f : expf(from[c] - largest);
      to[c] = p;
      sum += p;
    }
    sum = block_reduce(sum, shared, SumOf{});
    if (masked) continue;
    for (std::int64_t c = threadIdx.x; c < s; c += blockDim.x) to[c] = to[c] / sum;
  }
}

// Threads over the head's values; over all keys of the document, later ones too: an edit may have given them
// weight.
__global__ void apply_pattern(Rows z, Rows pattern, Rows v, QueryLists queries, int group, int e,
                              std::int64_t s) {
  const std::int64_t t = blockIdx.x, head = blockIdx.y, first = queries.first[t], n = queries.count[t];
  const float* weights = pattern.row(t) + head * s;
  for (int i = static_cast<int>(threadIdx.x); i < e; i += static_cast<int>(blockDim.x)) {
    float sum = 0;
    for (std::int64_t key = 0; key < n; ++key)  // without weight a value that isn't finite doesn't matter
      if (weights[key] != 0) sum = fmaf(weights[key], v.row(first + key)[head / group * e + i], sum);
    z.row(t)[head * e + i] = sum;
  }
}

dim3 grid_of(Tensor heads) {  // [T, H, ..]
  return dim3(static_cast<unsigned>(heads.rows()), static_cast<unsigned>(heads.dim(1)));
}

}  // namespace

void GpuBackend::do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                                     const KeyRanges& keys, const AttentionSpec& spec) {
  const int e = static_cast<int>(q.dim(2)), group = static_cast<int>(q.dim(1) / k.dim(1));
  launch("attention_scores", score_keys, grid_of(q), dim3(threads_for(scores.dim(2))),
         static_cast<std::size_t>(e) * sizeof(float), stream_, rows_of(scores), rows_of(q), rows_of(k),
         query_lists(lists_, documents, keys), score_rule(spec), group, e, scores.dim(2),
         heads_by_four(rows_of(k), e));
}

void GpuBackend::do_softmax(Tensor y, Tensor x) {
  launch("softmax", softmax_rows,
         dim3(static_cast<unsigned>(std::min<std::int64_t>(x.rows() * x.dim(1), 1 << 20))),
         dim3(threads_for(x.dim(2))), 0, stream_, rows_of(y), rows_of(x), x.rows(), x.dim(1), x.dim(2));
}

void GpuBackend::do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents,
                                    const KeyRanges& keys) {
  const int e = static_cast<int>(z.dim(2)), group = static_cast<int>(z.dim(1) / v.dim(1));
  launch("attention_apply", apply_pattern, grid_of(z), dim3(threads_for(e)), 0, stream_, rows_of(z),
         rows_of(pattern), rows_of(v), query_lists(lists_, documents, keys), group, e, pattern.dim(2));
}

}  // namespace sonde::SONDE_GPU
