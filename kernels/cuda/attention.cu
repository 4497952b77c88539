// Causal attention without a T x T tensor (online softmax, arXiv:1805.02867): z = sum_j exp(s_j - m) v_j /
// sum_j exp(s_j - m) over the keys that a query sees. In float here, for few queries and for very wide heads;
// documents of many queries go to tiles (tiled_attention.cu), in bf16 and f16 to tensor cores
// (flash_attention.cu).
//
// Ladder: a block per query and head, its keys 64 at a time -> chunks of 256 keys that blocks of their own
// may take where queries are few (split-K, decode), joined in order: the same bits either way, whatever the
// batch. Bytes at least: q, k, v and z once, 4 (2 H + 2 K) E a token; decode reads k and v once per query
// head, from L2 after the first of a group. FLOPs: 4 E a pair of query and key.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/flash_attention.h"
#include "kernels/cuda/keys.cuh"
#include "kernels/cuda/tiled_attention.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kKeys = 64;          // keys of a step, one a thread
constexpr int kChunk = 256;        // keys of a chunk, counted from the document's start
constexpr int kWidestHead = 4000;  // its 3 E floats fit the 48 KiB of shared memory that any block has
constexpr int kFewBlocks = 512;    // below so many, chunks are spread over blocks

struct Attention {
  Rows z, q, k, v, lse;  // lse: [T, H] or null
  QueryLists queries;
  ScoreRule rule;
  int heads, group, e;
  bool keys_by_four;
  float* partial;  // [chunks, T, H, 2 + E]: largest, total, sums; null: a block takes all chunks
};

// Shared memory of a block: query, sums of this chunk, sums of all so far, [E] each.
struct Memory {
  float *query, *sum, *all;
};

// largest and total of a chunk, known to all threads; its sums in m.sum.
struct Softmax {
  float largest, total;
};

GPU_DEV Softmax attend_chunk(const Attention& x, const Memory& m, std::int64_t t, std::int64_t kv,
                             std::int64_t key0, std::int64_t end, float* weights, float* reduction) {
  const std::int64_t first = x.queries.first[t];
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < x.e; i += kKeys) m.sum[i] = 0;
  Softmax s{-INFINITY, 0};
  for (; key0 < end; key0 += kKeys) {
    const std::int64_t key = key0 + thread, of_warp = key0 + thread / 32 * 32;
    const float product =
        products_of_keys(m.query, x.k, first + of_warp, end - of_warp, kv, x.e, x.keys_by_four);
    const float score = key < end ? x.rule(product) : -INFINITY;
    const float before = s.largest;
    s.largest = fmaxf(before, block_reduce(score, reduction, MaxOf{}));
    // NaN in a key reaches weight and sum; the maximum leaves it out.
    const float shift = s.largest == -INFINITY ? 0.0f : s.largest, kept = expf(before - shift);
    const float weight = key < end ? expf(score - shift) : 0.0f;
    weights[thread] = weight;
    s.total =
        fmaf(s.total, kept, block_reduce(weight, reduction, SumOf{}));  // and `weights` is there for all
    const int n = end - key0 < kKeys ? static_cast<int>(end - key0) : kKeys;
    for (int i = thread; i < x.e; i += kKeys) {
      float value = m.sum[i] * kept;
      for (int j = 0; j < n; ++j) value = fmaf(weights[j], x.v.row(first + key0 + j)[kv + i], value);
      m.sum[i] = value;
    }
    __syncthreads();
  }
  return s;
}

// Another chunk joins what came before it: `sum` of it, `all` of those.
struct Joined {
  float largest, total;
  float before, now;  // factors of the two
};
GPU_DEV Joined join(Softmax all, Softmax chunk) {
  const float largest = fmaxf(all.largest, chunk.largest), shift = largest == -INFINITY ? 0.0f : largest;
  const float before = expf(all.largest - shift), now = expf(chunk.largest - shift);
  return {largest, fmaf(all.total, before, chunk.total * now), before, now};
}

__global__ void attend(Attention x) {
  GPU_DYN_SMEM(bytes);
  GPU_SHARED(float[kKeys], weights);
  GPU_SHARED(float[32], reduction);
  float* floats = reinterpret_cast<float*>(bytes);
  const Memory m{floats, floats + x.e, floats + 2 * x.e};
  const std::int64_t t = blockIdx.x, head = blockIdx.y, kv = head / x.group * x.e, own = x.queries.own[t];
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < x.e; i += kKeys) {
    m.query[i] = x.q.row(t)[head * x.e + i];
    m.all[i] = 0;
  }
  __syncthreads();
  const std::int64_t from = first_seen(own, x.rule.window);
  const auto begin = [&](std::int64_t chunk) { return chunk * kChunk > from ? chunk * kChunk : from; };
  const auto end = [&](std::int64_t chunk) {
    return (chunk + 1) * kChunk < own + 1 ? (chunk + 1) * kChunk : own + 1;
  };

  if (x.partial != nullptr) {
    const std::int64_t chunk = from / kChunk + blockIdx.z;
    if (chunk > own / kChunk) return;
    const Softmax s = attend_chunk(x, m, t, kv, begin(chunk), end(chunk), weights, reduction);
    float* out = x.partial + ((blockIdx.z * std::int64_t{gridDim.x} + t) * x.heads + head) * (2 + x.e);
    if (thread == 0) out[0] = s.largest, out[1] = s.total;
    for (int i = thread; i < x.e; i += kKeys) out[2 + i] = m.sum[i];
    return;
  }
  Softmax all{-INFINITY, 0};
  for (std::int64_t chunk = from / kChunk; chunk <= own / kChunk; ++chunk) {
    const Softmax s = attend_chunk(x, m, t, kv, begin(chunk), end(chunk), weights, reduction);
    const Joined joined = join(all, s);
    all = {joined.largest, joined.total};
    for (int i = thread; i < x.e; i += kKeys) m.all[i] = fmaf(m.all[i], joined.before, m.sum[i] * joined.now);
  }
  for (int i = thread; i < x.e; i += kKeys) x.z.row(t)[head * x.e + i] = m.all[i] / all.total;
  if (x.lse.data != nullptr && thread == 0) x.lse.row(t)[head] = all.largest + logf(all.total);
}

__global__ void join_chunks(Attention x, std::int64_t tokens) {
  const std::int64_t t = blockIdx.x, head = blockIdx.y, own = x.queries.own[t];
  const std::int64_t chunks = own / kChunk - first_seen(own, x.rule.window) / kChunk + 1;
  for (int i = static_cast<int>(threadIdx.x); i < x.e; i += static_cast<int>(blockDim.x)) {
    Softmax all{-INFINITY, 0};
    float sum = 0;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* part = x.partial + ((chunk * tokens + t) * x.heads + head) * (2 + x.e);
      const Joined joined = join(all, {part[0], part[1]});
      all = {joined.largest, joined.total};
      sum = fmaf(sum, joined.before, part[2 + i] * joined.now);
    }
    x.z.row(t)[head * x.e + i] = sum / all.total;
    if (x.lse.data != nullptr && i == 0) x.lse.row(t)[head] = all.largest + logf(all.total);
  }
}

std::int64_t most_keys(const Documents& documents, const KeyRanges& keys) {
  return keys.count.empty() ? documents.longest() : *std::max_element(keys.count.begin(), keys.count.end());
}

}  // namespace

// Heads become bf16 or f16, padded to a width that tiles know, the keys of each document behind each other.
template <class T>
void GpuBackend::attention_on_tensor_cores(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                                           const KeyRanges& keys, const AttentionSpec& spec) {
  const auto heads = static_cast<int>(q.dim(1)), kv_heads = static_cast<int>(k.dim(1)),
             e = static_cast<int>(q.dim(2));
  std::vector<std::int32_t> tasks, rows;
  const bool cached = !keys.first.empty();
  std::int32_t packed = 0;
  for (std::size_t d = 0; d + 1 < documents.starts.size(); ++d) {
    const std::int32_t start = documents.starts[d], n = documents.starts[d + 1] - start;
    if (n == 0) continue;
    const std::int32_t count = cached ? keys.count[d] : n, key = cached ? packed : start;
    for (std::int32_t i = 0; i < n; i += kFlashQueries)
      tasks.insert(tasks.end(), {start + i, std::min(kFlashQueries, n - i), count - n + i, key});
    for (std::int32_t i = 0; cached && i < count; ++i) rows.push_back(keys.first[d] + i);
    packed += count;
  }
  const std::int64_t width = flash_width(e), key_rows = cached ? packed : k.rows();
  const std::int64_t q_bytes = (q.rows() * heads * width * 2 + 255) / 256 * 256;
  const std::int64_t k_bytes = (key_rows * kv_heads * width * 2 + 255) / 256 * 256;
  if (const std::int64_t bytes = q_bytes + 2 * k_bytes; scratch_.bytes() < bytes) scratch_ = allocate(bytes);
  auto* qs = reinterpret_cast<T*>(scratch_.data());
  auto* ks = reinterpret_cast<T*>(scratch_.data() + q_bytes);
  auto* vs = reinterpret_cast<T*>(scratch_.data() + q_bytes + k_bytes);
  const std::int32_t* index = lists_.get(std::span(rows.data(), rows.size()));
  pack_heads(stream_, qs, rows_of(q), q.rows(), heads, e);
  pack_heads(stream_, ks, rows_of(k, index), key_rows, kv_heads, e);
  pack_heads(stream_, vs, rows_of(v, index), key_rows, kv_heads, e);
  flash_attention<T>(stream_, {qs, ks, vs, rows_of(z), rows_of(spec.lse), heads, kv_heads, e},
                     lists_.get(std::span(tasks.data(), tasks.size())),
                     static_cast<std::int64_t>(tasks.size()) / 4, score_rule(spec));
}

void GpuBackend::do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                              const KeyRanges& keys, const AttentionSpec& spec) {
  const std::int64_t sequences = static_cast<std::int64_t>(documents.starts.size()) - 1;
  if (spec.precision != Precision::f32 && flash_width(q.dim(2)) > 0 && q.rows() >= 4 * sequences) {
    if (spec.precision == Precision::f16)
      return attention_on_tensor_cores<gpu::f16>(z, q, k, v, documents, keys, spec);
    return attention_on_tensor_cores<gpu::bf16>(z, q, k, v, documents, keys, spec);
  }
  if (q.dim(2) <= kTiledWidest && q.rows() >= 4 * sequences)
    return attention_in_tiles(z, q, k, v, documents, keys, spec);

  const auto tokens = static_cast<unsigned>(q.rows()), heads = static_cast<unsigned>(q.dim(1));
  const int e = static_cast<int>(q.dim(2));
  if (e > kWidestHead)
    fail_hint("--device cpu has no such limit", "attention: heads of {} values, expected at most {}", e,
              kWidestHead);
  Attention x{rows_of(z),
              rows_of(q),
              rows_of(k),
              rows_of(v),
              rows_of(spec.lse),
              query_lists(lists_, documents, keys),
              score_rule(spec),
              static_cast<int>(heads),
              static_cast<int>(q.dim(1) / k.dim(1)),
              e,
              heads_by_four(rows_of(k), e),
              nullptr};
  std::int64_t chunks = (most_keys(documents, keys) + kChunk - 1) / kChunk;
  if (spec.window > 0) chunks = std::min(chunks, (spec.window - 1) / kChunk + 2);
  const bool split = chunks > 1 && q.rows() * q.dim(1) < kFewBlocks;
  if (split) {
    const std::int64_t bytes = chunks * q.rows() * q.dim(1) * (2 + e) * 4;
    if (scratch_.bytes() < bytes) scratch_ = allocate(bytes);
    x.partial = reinterpret_cast<float*>(scratch_.data());
  }
  launch("attention", attend, dim3(tokens, heads, split ? static_cast<unsigned>(chunks) : 1), dim3(kKeys),
         static_cast<std::size_t>(3 * e) * sizeof(float), stream_, x);
  if (split)
    launch("attention", join_chunks, dim3(tokens, heads), dim3(threads_for(e)), 0, stream_, x, q.rows());
}

void GpuBackend::attention_in_tiles(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                                    const KeyRanges& keys, const AttentionSpec& spec) {
  std::vector<std::int32_t> tasks;
  for (std::size_t d = 0; d + 1 < documents.starts.size(); ++d) {
    const std::int32_t start = documents.starts[d], n = documents.starts[d + 1] - start;
    const std::int32_t count = keys.count.empty() ? n : keys.count[d];
    for (std::int32_t i = 0; i < n; i += kTiledQueries)
      tasks.insert(tasks.end(), {start + i, std::min(kTiledQueries, n - i), count - n + i,
                                 keys.first.empty() ? start : keys.first[d]});
  }
  tiled_attention(stream_,
                  {rows_of(z), rows_of(q), rows_of(k), rows_of(v), rows_of(spec.lse),
                   static_cast<int>(q.dim(1)), static_cast<int>(k.dim(1)), static_cast<int>(q.dim(2))},
                  lists_.get(std::span(tasks.data(), tasks.size())),
                  static_cast<std::int64_t>(tasks.size()) / 4, score_rule(spec));
}

}  // namespace sonde::SONDE_GPU
