// Attention in the steps that hooks see: scores, pattern, weighted values.
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/heads.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace sonde::cpu {
namespace {

// f(first row, rows) for the tiles of a task.
template <class F>
void tiles_of(const GemmKernel& g, const QueryBlock& task, const F& f) {
  for (std::int64_t r = 0; r < task.rows; r += g.mr)
    f(task.first + r, static_cast<int>(std::min<std::int64_t>(g.mr, task.rows - r)));
}

}  // namespace

void CpuBackend::do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                                     const KeyRanges& keys, const AttentionSpec& spec) {
  const GemmKernel& g = kernels_.scores;
  const std::int64_t group = q.dim(1) / k.dim(1), e = q.dim(2), s = scores.dim(2);
  const std::vector<HeadDocument> docs = head_documents(documents, keys);
  const PackedHeads packed(g, kernels_.values, k, {}, docs, packed_heads_);
  const std::vector<QueryBlock> tasks = query_blocks(docs, q.dim(1));
  const auto count = static_cast<std::int64_t>(tasks.size());
#pragma omp parallel for schedule(dynamic) if (count > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    const QueryBlock& task = tasks[static_cast<std::size_t>(i)];
    const HeadRows queries = head_rows(q, task.row0, task.head),
                   out = head_rows(scores, task.row0, task.head);
    std::byte* x = thread_scratch(packed_x_bytes(g, g.mr, e));
    tiles_of(g, task, [&](std::int64_t row, int rows) {
      g.pack_x(x, queries.row(row), queries.stride, rows, e);
      for (std::int64_t key = first_key(row, spec.window) / g.nr * g.nr; key < row + rows; key += g.nr)
        g.tile(out.row(row) + key, out.stride, x, packed.keys(task.document, task.head / group, key / g.nr),
               e, rows, static_cast<int>(std::min<std::int64_t>(g.nr, row + rows - key)), false, nullptr);
      for (std::int64_t t = row; t < row + rows; ++t) {
        const std::int64_t from = first_key(t, spec.window);
        float *const all = out.row(t), *const seen = all + from;
        kernels_.rows.scale(seen, seen, spec.scale, t + 1 - from);
        if (spec.softcap > 0) kernels_.rows.softcap(seen, seen, spec.softcap, t + 1 - from);
        std::fill(all, seen, -std::numeric_limits<float>::infinity());
        std::fill(all + t + 1, all + s, -std::numeric_limits<float>::infinity());
      }
    });
  }
}

void CpuBackend::do_softmax(Tensor y, Tensor x) {
  const std::int64_t heads = x.dim(1), s = x.dim(2);
  parallel_rows(x.rows(), x.width(), [&](std::int64_t t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const float* from = x.row(t) + h * s;
      float* to = y.row(t) + h * s;
      const float largest = kernels_.rows.max(from, s);
      if (largest == -std::numeric_limits<float>::infinity()) {  // an edit masked every key
        std::fill(to, to + s, 0.0f);
        continue;
      }
      const float sum = kernels_.rows.exp_sum(to, from, largest, s);
      kernels_.rows.divide(to, to, sum, s);
    }
  });
}

// Over all keys of the document, later ones too: an edit may have given them weight. Rows that aren't finite
// are done again from their first to their last key of any weight: 0 times NaN of a token that a row doesn't
// see is 0.
void CpuBackend::do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents,
                                    const KeyRanges& keys) {
  const ValueKernel& g = kernels_.values;
  const std::int64_t group = z.dim(1) / v.dim(1), e = z.dim(2);
  const std::vector<HeadDocument> docs = head_documents(documents, keys);
  const PackedHeads packed(g, g, {}, v, docs, packed_heads_);
  const std::vector<QueryBlock> tasks = query_blocks(docs, z.dim(1));
  const auto count = static_cast<std::int64_t>(tasks.size());
#pragma omp parallel for schedule(dynamic) if (count > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    const QueryBlock& task = tasks[static_cast<std::size_t>(i)];
    const HeadRows weights = head_rows(pattern, task.row0, task.head),
                   out = head_rows(z, task.row0, task.head);
    std::byte* x = thread_scratch(packed_x_bytes(g, g.mr, task.keys));
    tiles_of(g, task, [&](std::int64_t row, int rows) {
      g.pack_x(x, weights.row(row), weights.stride, rows, task.keys);
      for (std::int64_t column = 0; column < e; column += g.nr)
        g.tile(out.row(row) + column, out.stride, x,
               packed.values(task.document, task.head / group, column / g.nr, 0), task.keys, rows,
               static_cast<int>(std::min<std::int64_t>(g.nr, e - column)), false, nullptr);
      if (all_finite(out, row, rows, e)) return;
      for (std::int64_t t = row; t < row + rows; ++t) {
        std::int64_t from = 0, to = task.keys;
        while (to > from && weights.row(t)[to - 1] == 0) --to;
        while (from < to && weights.row(t)[from] == 0) ++from;
        g.pack_x(x, weights.row(t) + from, weights.stride, 1, to - from);
        for (std::int64_t column = 0; column < e; column += g.nr)
          g.tile(out.row(t) + column, out.stride, x,
                 packed.values(task.document, task.head / group, column / g.nr, from), to - from, 1,
                 static_cast<int>(std::min<std::int64_t>(g.nr, e - column)), false, nullptr);
      }
    });
  }
}

}  // namespace sonde::cpu
