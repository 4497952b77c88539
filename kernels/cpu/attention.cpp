// Causal attention without a T x T tensor (online softmax, arXiv:1805.02867; blocked as in arXiv:2205.14135).
// A task is a block of queries of one head. It walks the document's keys in blocks counted from the
// document's start: scores and weighted values are the GEMM's micro-kernel, so a row's bits depend on its own
// document alone.
#include <omp.h>

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/heads.h"
#include "kernels/cpu/kernels_of.h"
#include "kernels/cpu/scratch.h"

namespace sonde::cpu {
namespace {

constexpr std::int64_t kKeys = kValueChain;  // keys of a block; a multiple of every panel width

struct Kernels {
  const GemmKernel& scores;
  const ValueKernel& values;
  const RowKernels& rows;
};

// One task's working memory, in the thread's scratch.
struct Block {
  Block(const Kernels& kernels, std::int64_t e) {
    const ValueKernel& g = kernels.values;
    const std::int64_t query_floats = packed_x_bytes(kernels.scores, kQueryRows, e) / 4;
    const std::int64_t weight_floats = packed_x_bytes(g, g.mr, kKeys) / 4, floats = kQueryRows * kKeys;
    columns = (e + g.nr - 1) / g.nr * g.nr;
    queries = reinterpret_cast<float*>(
        thread_scratch((query_floats + weight_floats + floats + kQueryRows * (columns + 2)) * 4));
    weights = queries + query_floats;
    scores = weights + weight_floats;
    out = scores + floats;
    largest = out + kQueryRows * columns;
    sum = largest + kQueryRows;
  }
  std::int64_t columns;  // E rounded up to whole panels
  float* queries;        // [E][mr] for each tile
  float* weights;        // [keys / k_step][mr] words of one tile
  float* scores;         // [48, 256]
  float* out;            // [48, columns] weighted sum of values so far
  float* largest;        // [48] largest score so far
  float* sum;            // [48] sum of exp(score - largest)
};

// Scores of one query against keys [from, to) of a block become exp(score - largest), 0 at the other keys up
// to `padded`; what was summed under a smaller maximum is scaled down.
void softmax_row(const RowKernels& rows, float* scores, std::int64_t from, std::int64_t to,
                 std::int64_t padded, const AttentionSpec& spec, float* out, std::int64_t columns,
                 float& largest, float& sum) {
  float* const seen = scores + from;
  const std::int64_t n = to - from;
  rows.scale(seen, seen, spec.scale, n);
  if (spec.softcap > 0) rows.softcap(seen, seen, spec.softcap, n);
  const float before = largest;
  largest = std::max(before, rows.max(seen, n));
  if (largest != before) {
    const float factor =
        before == -std::numeric_limits<float>::infinity() ? 0.0f : std::exp(before - largest);
    sum *= factor;
    rows.scale(out, out, factor, columns);
  }
  sum += rows.exp_sum(seen, seen, largest, n);
  std::fill(scores, seen, 0.0f);
  std::fill(scores + to, scores + padded, 0.0f);
}

void attend_block(const Kernels& kernels, const QueryBlock& task, HeadRows z, HeadRows q,
                  const PackedHeads& packed, std::int64_t kv_head, std::int64_t e,
                  const AttentionSpec& spec) {
  const ValueKernel& g = kernels.values;
  const Block block(kernels, e);
  for (std::int64_t r = 0; r < task.rows; r += g.mr)
    kernels.scores.pack_x(block.queries + r * e, q.row(task.first + r), q.stride,
                          static_cast<int>(std::min<std::int64_t>(g.mr, task.rows - r)), e);
  std::fill(block.out, block.out + kQueryRows * block.columns, 0.0f);
  std::fill(block.largest, block.largest + kQueryRows, -std::numeric_limits<float>::infinity());
  std::fill(block.sum, block.sum + kQueryRows, 0.0f);

  const std::int64_t key_begin = first_key(task.first, spec.window) / kKeys * kKeys;
  for (std::int64_t key0 = key_begin; key0 < task.first + task.rows; key0 += kKeys) {
    const std::int64_t key1 = std::min(key0 + kKeys, task.first + task.rows);
    // Keys [first_seen, last_seen) of this block that any query of the tile at row r may see; whole panels.
    const auto first_seen = [&](std::int64_t r) {
      return std::max<std::int64_t>(0, first_key(task.first + r, spec.window) - key0) / g.nr * g.nr;
    };
    const auto last_seen = [&](std::int64_t r) {
      const std::int64_t last = task.first + std::min(r + g.mr, task.rows) - 1;
      return std::min(key1, last + 1) - key0;
    };
    for (std::int64_t key = 0; key < key1 - key0; key += g.nr)
      for (std::int64_t r = 0; r < task.rows; r += g.mr)
        if (key >= first_seen(r) && key < last_seen(r))
          kernels.scores.tile(block.scores + r * kKeys + key, kKeys, block.queries + r * e,
                              packed.keys(task.document, kv_head, (key0 + key) / g.nr), e,
                              static_cast<int>(std::min<std::int64_t>(g.mr, task.rows - r)), g.nr, false,
                              nullptr);
    for (std::int64_t r = 0; r < task.rows; r += g.mr) {
      const std::int64_t begin = first_seen(r), end = last_seen(r);
      const std::int64_t height = std::min<std::int64_t>(g.mr, task.rows - r);
      if (end <= begin) continue;
      for (std::int64_t i = r; i < r + height; ++i) {
        float* scores = block.scores + i * kKeys + begin;
        const std::int64_t position = task.first + i;
        const std::int64_t from = std::max<std::int64_t>(0, first_key(position, spec.window) - key0 - begin);
        const std::int64_t to = std::min(end - begin, position + 1 - key0 - begin);
        if (to <= from)
          std::fill(scores, scores + end - begin, 0.0f);
        else
          softmax_row(kernels.rows, scores, from, to, end - begin, spec, block.out + i * block.columns,
                      block.columns, block.largest[i], block.sum[i]);
      }
      g.pack_x(block.weights, block.scores + r * kKeys + begin, kKeys, static_cast<int>(height), end - begin);
      for (std::int64_t column = 0; column < block.columns; column += g.nr)
        g.tile(block.out + r * block.columns + column, block.columns, block.weights,
               packed.values(task.document, kv_head, column / g.nr, key0 + begin), end - begin,
               static_cast<int>(height), g.nr, true, nullptr);
    }
  }
  for (std::int64_t r = 0; r < task.rows; ++r)
    kernels.rows.divide(z.row(task.first + r), block.out + r * block.columns, block.sum[r], e);
  if (!spec.lse.empty())
    for (std::int64_t r = 0; r < task.rows; ++r)
      spec.lse.row(task.row0 + task.first + r)[task.head] = block.largest[r] + std::log(block.sum[r]);
}

// The last query of a document, in the heads [head, head + heads) that share one head of keys.
struct OneQuery {
  HeadDocument document;
  std::int64_t kv_head, head, heads;
};

// One task for each kv head, or several where those are too few for the threads.
std::vector<OneQuery> one_queries(const std::vector<HeadDocument>& documents, std::int64_t heads,
                                  std::int64_t kv_heads) {
  const std::int64_t group = heads / kv_heads;
  const auto count = static_cast<std::int64_t>(documents.size()) * kv_heads;
  const std::int64_t parts =
      std::min<std::int64_t>(group, (omp_get_max_threads() + count - 1) / std::max<std::int64_t>(1, count));
  std::vector<OneQuery> tasks;
  for (const HeadDocument& document : documents)
    for (std::int64_t kv = 0; kv < kv_heads; ++kv)
      for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t first = group * part / parts, end = group * (part + 1) / parts;
        tasks.push_back({document, kv, kv * group + first, end - first});
      }
  return tasks;
}

void drop_first_of_pair(float& word) {
  word = std::bit_cast<float>(std::bit_cast<std::uint32_t>(word) & 0xffff0000u);
}

// The same steps as attend_block, with the same bits, and nothing of keys that the query doesn't see. Keys
// and values are packed a panel at a time where they are used: nothing but the cache itself is read from
// memory, and once for all heads of the task.
void attend_one(const Kernels& kernels, const OneQuery& task, Tensor z, Tensor q, Tensor k, Tensor v,
                const AttentionSpec& spec) {
  const ValueKernel& g = kernels.values;
  const std::int64_t e = q.dim(2), n = task.heads, columns = (e + g.nr - 1) / g.nr * g.nr;
  const HeadDocument& document = task.document;
  const std::int64_t position = document.keys - 1, first_seen = first_key(position, spec.window);
  const HeadRows keys = head_rows(k, document.key_row, task.kv_head),
                 values = head_rows(v, document.key_row, task.kv_head);
  const std::int64_t query_floats = packed_x_bytes(kernels.scores, n, e) / 4,
                     weight_floats = packed_x_bytes(g, n, kKeys) / 4;
  auto* queries = reinterpret_cast<float*>(thread_scratch(
      (query_floats + weight_floats + n * (kKeys + columns + 2) + g.nr * std::max(e, kKeys)) * 4));
  float *const weights = queries + query_floats, *const scores = weights + weight_floats,
               *const out = scores + n * kKeys, *const largest = out + n * columns, *const sum = largest + n,
               *const panel = sum + n;
  const auto tiles = [&](const auto& f) {  // f(first row, rows)
    for (std::int64_t r = 0; r < n; r += g.mr) f(r, static_cast<int>(std::min<std::int64_t>(g.mr, n - r)));
  };
  tiles([&](std::int64_t r, int rows) {
    kernels.scores.pack_x(queries + r * e, q.row(document.query_row) + (task.head + r) * e, e, rows, e);
  });
  std::fill(out, largest, 0.0f);
  std::fill(largest, sum, -std::numeric_limits<float>::infinity());
  std::fill(sum, panel, 0.0f);

  for (std::int64_t key0 = first_seen / kKeys * kKeys; key0 <= position; key0 += kKeys) {
    const std::int64_t begin = std::max<std::int64_t>(0, first_seen - key0) / g.nr * g.nr;
    const std::int64_t end = std::min(kKeys, position + 1 - key0);
    for (std::int64_t key = begin; key < end; key += g.nr) {
      kernels.scores.pack_w(panel, keys.row(key0 + key), keys.stride,
                            static_cast<int>(std::min<std::int64_t>(g.nr, end - key)), e);
      tiles([&](std::int64_t r, int rows) {
        kernels.scores.tile(scores + r * kKeys + key, kKeys, queries + r * e, panel, e, rows, g.nr, false,
                            nullptr);
      });
    }
    for (std::int64_t i = 0; i < n; ++i)
      softmax_row(kernels.rows, scores + i * kKeys + begin,
                  std::max<std::int64_t>(0, first_seen - key0 - begin), end - begin, end - begin, spec,
                  out + i * columns, columns, largest[i], sum[i]);
    const std::int64_t seen = std::max(begin, first_seen - key0) / g.k_step * g.k_step;
    tiles([&](std::int64_t r, int rows) {
      g.pack_x(weights + r * kKeys, scores + r * kKeys + seen, kKeys, rows, end - seen);
    });
    for (std::int64_t column = 0; column < columns; column += g.nr) {
      g.pack_values(panel, values.row(key0 + seen) + column, values.stride,
                    static_cast<int>(std::min<std::int64_t>(g.nr, e - column)), end - seen);
      if (key0 + seen < first_seen)  // the first pair holds a key before the window: 0 times NaN is NaN
        for (int j = 0; j < g.nr; ++j) drop_first_of_pair(panel[j]);
      tiles([&](std::int64_t r, int rows) {
        g.tile(out + r * columns + column, columns, weights + r * kKeys, panel, end - seen, rows, g.nr, true,
               nullptr);
      });
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    kernels.rows.divide(z.row(document.query_row) + (task.head + i) * e, out + i * columns, sum[i], e);
    if (!spec.lse.empty()) spec.lse.row(document.query_row)[task.head + i] = largest[i] + std::log(sum[i]);
  }
}

// The rows of a tile share its keys: one that a row doesn't see has weight 0 there, and 0 times a value that
// isn't finite would be NaN. So the rows of such a block are done again, each with its own keys alone.
void attend(const Kernels& kernels, const QueryBlock& task, const HeadDocument& document, Tensor z, Tensor q,
            Tensor k, Tensor v, const PackedHeads& packed, const AttentionSpec& spec) {
  const std::int64_t kv_head = task.head / (q.dim(1) / k.dim(1)), e = q.dim(2);
  const HeadRows out = head_rows(z, task.row0, task.head);
  attend_block(kernels, task, out, head_rows(q, task.row0, task.head), packed, kv_head, e, spec);
  if (all_finite(out, task.first, task.rows, e)) return;
  for (std::int64_t position = task.first; position < task.first + task.rows; ++position)
    attend_one(kernels, {{document.key_row, position + 1, task.row0 + position, 1}, kv_head, task.head, 1}, z,
               q, k, v, spec);
}

}  // namespace

void CpuBackend::do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                              const KeyRanges& keys, const AttentionSpec& spec) {
  const Kernels kernels{kernels_.scores, value_kernel_of(path_, spec.precision), kernels_.rows};
  std::vector<HeadDocument> docs = head_documents(documents, keys), decoding;
  for (HeadDocument& document : docs)
    if (document.queries == 1) {
      decoding.push_back(document);
      document.queries = 0;  // nothing of it is left for the blocks below
    }
  const std::vector<OneQuery> ones = one_queries(decoding, q.dim(1), k.dim(1));
  const auto one_count = static_cast<std::int64_t>(ones.size());
#pragma omp parallel for schedule(dynamic) if (one_count > 1)
  for (std::int64_t i = 0; i < one_count; ++i)
    attend_one(kernels, ones[static_cast<std::size_t>(i)], z, q, k, v, spec);
  if (decoding.size() == docs.size()) return;

  const PackedHeads packed(kernels.scores, kernels.values, k, v, docs, packed_heads_);
  const std::vector<QueryBlock> tasks = query_blocks(docs, q.dim(1));
  const auto count = static_cast<std::int64_t>(tasks.size());
#pragma omp parallel for schedule(dynamic) if (count > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    const QueryBlock& task = tasks[static_cast<std::size_t>(i)];
    attend(kernels, task, docs[static_cast<std::size_t>(task.document)], z, q, k, v, packed, spec);
  }
}

}  // namespace sonde::cpu
