// Causal attention without a T x T tensor (online softmax, arXiv:1805.02867): z = sum_j exp(s_j - m) v_j /
// sum_j exp(s_j - m) over the keys that a query sees.
//
// Ladder: a block per query and head, its keys 64 at a time (here).
// Bytes at least: q, k, v and z once, 4 (2 H + 2 K) E a token; this version reads k and v once per query from
// L2. FLOPs: 4 E a pair of query and key.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/heads.h"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kKeys = 64;  // keys of a step, one a thread

// Shared: the query [E] and the running sum of values [E].
__global__ void attend(Rows z, Rows q, Rows k, Rows v, QueryLists queries, ScoreRule rule, int group, int e) {
  GPU_DYN_SMEM(memory);
  GPU_SHARED(float[kKeys], weights);
  GPU_SHARED(float[32], reduction);
  float* query = reinterpret_cast<float*>(memory);
  float* sum = query + e;
  const std::int64_t t = blockIdx.x;
  const std::int64_t head = blockIdx.y, kv = head / group * e, own = queries.own[t], first = queries.first[t];
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < e; i += kKeys) {
    query[i] = q.row(t)[head * e + i];
    sum[i] = 0;
  }
  __syncthreads();
  float largest = -INFINITY, total = 0;
  for (std::int64_t key0 = first_seen(own, rule.window); key0 <= own; key0 += kKeys) {
    const std::int64_t key = key0 + thread;
    float score = -INFINITY;
    if (key <= own) {
      const float* row = k.row(first + key) + kv;
      float product = 0;
      for (int i = 0; i < e; ++i) product = fmaf(query[i], row[i], product);
      score = rule(product);
    }
    const float before = largest;
    largest = fmaxf(largest, block_reduce(score, reduction, MaxOf{}));
    // NaN in a key reaches weight and sum; the maximum leaves it out.
    const float shift = largest == -INFINITY ? 0.0f : largest, kept = expf(before - shift);
    const float weight = key <= own ? expf(score - shift) : 0.0f;
    weights[thread] = weight;
    total = total * kept + block_reduce(weight, reduction, SumOf{});  // and `weights` is there for all
    const int n = own + 1 - key0 < kKeys ? static_cast<int>(own + 1 - key0) : kKeys;
    for (int i = thread; i < e; i += kKeys) {
      float value = sum[i] * kept;
      for (int j = 0; j < n; ++j) value = fmaf(weights[j], v.row(first + key0 + j)[kv + i], value);
      sum[i] = value;
    }
    __syncthreads();
  }
  for (int i = thread; i < e; i += kKeys) z.row(t)[head * e + i] = sum[i] / total;
}

}  // namespace

void GpuBackend::do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                              const KeyRanges& keys, const AttentionSpec& spec) {
  const auto heads = static_cast<unsigned>(q.dim(1));
  const int e = static_cast<int>(q.dim(2)), group = static_cast<int>(q.dim(1) / k.dim(1));
  launch("attention", attend, dim3(static_cast<unsigned>(q.rows()), heads), dim3(kKeys),
         static_cast<std::size_t>(2 * e) * sizeof(float), stream_, rows_of(z), rows_of(q), rows_of(k),
         rows_of(v), query_lists(lists_, documents, keys), score_rule(spec), group, e);
}

}  // namespace sonde::SONDE_GPU
