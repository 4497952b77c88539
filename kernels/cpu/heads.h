// What the three attention ops share: the heads of a document as rows, and blocks of queries as tasks.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"

namespace sonde::cpu {

// n rows of `width` floats, `stride` apart: one head of one document.
struct HeadRows {
  float* data;
  std::int64_t stride;
  float* row(std::int64_t i) const { return data + i * stride; }
};
inline HeadRows head_rows(Tensor x /*[T, heads, width]*/, std::int64_t start, std::int64_t head) {
  return {x.row(start) + head * x.dim(2), x.row_stride};
}

bool all_finite(HeadRows x, std::int64_t first, std::int64_t rows, std::int64_t width);

// One document: rows of its keys in k and v, and of its queries, which are its last tokens, in q.
struct HeadDocument {
  std::int64_t key_row, keys, query_row, queries;
};
std::vector<HeadDocument> head_documents(const Documents& documents, const KeyRanges& keys);

// Queries at positions [first, first + rows) of one head of one document; positions count from its first key.
struct QueryBlock {
  std::int64_t document, head, first, rows;
  std::int64_t row0;  // of the tensors of queries: the row of the document's position 0, were it there
  std::int64_t keys;  // of the document
};

constexpr std::int64_t kQueryRows = 48;  // a multiple of every kernel's tile height

// All blocks, those with most keys first within a head, so that the last tasks of a run are short.
std::vector<QueryBlock> query_blocks(const std::vector<HeadDocument>& documents, std::int64_t heads);

// The keys that a query at `position` sees are [first_key, position].
inline std::int64_t first_key(std::int64_t position, std::int64_t window) {
  return window > 0 ? std::max<std::int64_t>(0, position - window + 1) : 0;
}

// k and v of every document and kv head as panels for the micro-kernels: k as a weight [tokens, E] in panels
// of nr tokens, v as a weight [E, tokens] in panels of nr columns. Either may be left out (an empty tensor).
// Words are of 4 bytes; one of v holds k_step tokens.
class PackedHeads {
 public:
  PackedHeads(const GemmKernel& scores, const ValueKernel& weighted, Tensor k /*[rows, K, E]*/,
              Tensor v /*[rows, K, E]*/, const std::vector<HeadDocument>& documents, Buffer& memory);
  // Panels [E][nr] of tokens [nr i, nr (i + 1)).
  const float* keys(std::int64_t document, std::int64_t head, std::int64_t i) const {
    return at(document, head) + i * nr_ * width_;
  }
  // From token `first`, a multiple of k_step, of the panel [tokens / k_step][nr] of columns [nr i, nr (i +
  // 1)).
  const float* values(std::int64_t document, std::int64_t head, std::int64_t i, std::int64_t first) const {
    const auto d = static_cast<std::size_t>(document);
    return at(document, head) + key_floats_[d] + (i * steps_[d] + first / step_) * nr_;
  }

 private:
  float* at(std::int64_t document, std::int64_t head) const {
    const auto d = static_cast<std::size_t>(document);
    return data_ + offsets_[d] + head * head_floats_[d];
  }
  std::int64_t nr_, width_, step_;
  float* data_;
  std::vector<std::int64_t> offsets_, head_floats_, key_floats_, steps_;  // of each document
};

}  // namespace sonde::cpu
