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

// Queries [first, first + rows) of one head of one document; first and keys count from the document's start.
struct QueryBlock {
  std::int64_t document, start, tokens, head, first, rows;
};

constexpr std::int64_t kQueryRows = 48;  // a multiple of every kernel's tile height

// All blocks, those with most keys first within a head, so that the last tasks of a run are short.
inline std::vector<QueryBlock> query_blocks(const Documents& documents, std::int64_t heads) {
  std::vector<QueryBlock> blocks;
  for (std::size_t d = 0; d + 1 < documents.starts.size(); ++d) {
    const std::int64_t start = documents.starts[d], tokens = documents.starts[d + 1] - start;
    if (tokens == 0) continue;
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t first = (tokens - 1) / kQueryRows * kQueryRows; first >= 0; first -= kQueryRows)
        blocks.push_back(
            {static_cast<std::int64_t>(d), start, tokens, head, first, std::min(kQueryRows, tokens - first)});
  }
  return blocks;
}

// k and v of every document and kv head as panels for the micro-kernel: k as a weight [tokens, E] in panels
// of nr tokens, v as a weight [E, tokens] in panels of nr columns. Either may be left out (an empty tensor).
class PackedHeads {
 public:
  PackedHeads(const GemmKernel& kernel, Tensor k /*[T, K, E]*/, Tensor v /*[T, K, E]*/,
              const Documents& documents, Buffer& memory);
  // Panels [E][nr] of tokens [nr i, nr (i + 1)).
  const float* keys(std::int64_t document, std::int64_t head, std::int64_t i) const {
    return at(document, head) + i * nr_ * width_;
  }
  // From token `first` of the panel [tokens][nr] of columns [nr i, nr (i + 1)).
  const float* values(std::int64_t document, std::int64_t head, std::int64_t i, std::int64_t first) const {
    const auto d = static_cast<std::size_t>(document);
    return at(document, head) + key_floats_[d] + (i * tokens_[d] + first) * nr_;
  }

 private:
  float* at(std::int64_t document, std::int64_t head) const {
    const auto d = static_cast<std::size_t>(document);
    return data_ + offsets_[d] + head * head_floats_[d];
  }
  std::int64_t nr_, width_;
  float* data_;
  std::vector<std::int64_t> offsets_, head_floats_, key_floats_, tokens_;  // of each document
};

}  // namespace sonde::cpu
