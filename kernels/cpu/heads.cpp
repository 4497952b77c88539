#include "kernels/cpu/heads.h"

namespace sonde::cpu {
namespace {

constexpr std::int64_t kPackTokens = 256;  // a packing task; a multiple of every panel width

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

struct PackTask {
  std::int64_t document, start, head, first, tokens;
};

}  // namespace

bool all_finite(HeadRows x, std::int64_t first, std::int64_t rows, std::int64_t width) {
  float sum = 0;  // NaN or infinity times zero is NaN and stays
  for (std::int64_t r = first; r < first + rows; ++r) {
    const float* row = x.row(r);
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) sum += row[i] * 0.0f;
  }
  return sum == 0;
}

std::vector<HeadDocument> head_documents(const Documents& documents, const KeyRanges& keys) {
  std::vector<HeadDocument> result;
  for (std::size_t d = 0; d + 1 < documents.starts.size(); ++d) {
    const std::int64_t start = documents.starts[d], queries = documents.starts[d + 1] - start;
    if (keys.first.empty())
      result.push_back({start, queries, start, queries});
    else
      result.push_back({keys.first[d], keys.count[d], start, queries});
  }
  return result;
}

std::vector<QueryBlock> query_blocks(const std::vector<HeadDocument>& documents, std::int64_t heads) {
  std::vector<QueryBlock> blocks;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const HeadDocument& doc = documents[d];
    const std::int64_t before = doc.keys - doc.queries;
    for (std::int64_t head = 0; head < heads && doc.queries > 0; ++head)
      for (std::int64_t first = (doc.keys - 1) / kQueryRows * kQueryRows; first + kQueryRows > before;
           first -= kQueryRows) {
        const std::int64_t from = std::max(first, before);
        blocks.push_back({static_cast<std::int64_t>(d), head, from,
                          std::min(first + kQueryRows, doc.keys) - from, doc.query_row - before, doc.keys});
      }
  }
  return blocks;
}

PackedHeads::PackedHeads(const GemmKernel& scores, const ValueKernel& weighted, Tensor k, Tensor v,
                         const std::vector<HeadDocument>& documents, Buffer& memory)
    : nr_(scores.nr), width_(k.empty() ? v.dim(2) : k.dim(2)), step_(weighted.k_step) {
  const std::int64_t heads = k.empty() ? v.dim(1) : k.dim(1), columns = round_up(width_, nr_);
  std::vector<PackTask> tasks;
  std::int64_t floats = 0;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const std::int64_t start = documents[d].key_row, n = documents[d].queries > 0 ? documents[d].keys : 0;
    steps_.push_back((n + step_ - 1) / step_);
    key_floats_.push_back(k.empty() ? 0 : round_up(n, nr_) * width_);
    head_floats_.push_back(key_floats_.back() + (v.empty() ? 0 : steps_.back() * columns));
    offsets_.push_back(floats);
    floats += heads * head_floats_.back();
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t first = 0; first < n; first += kPackTokens)
        tasks.push_back({static_cast<std::int64_t>(d), start, head, first, std::min(kPackTokens, n - first)});
  }
  const std::int64_t bytes = floats * static_cast<std::int64_t>(sizeof(float));
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  data_ = reinterpret_cast<float*>(memory.data());

  const auto count = static_cast<std::int64_t>(tasks.size());
#pragma omp parallel for schedule(dynamic) if (count > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    const PackTask& task = tasks[static_cast<std::size_t>(i)];
    const std::int64_t end = task.first + task.tokens;
    if (!k.empty()) {
      const HeadRows rows = head_rows(k, task.start, task.head);
      for (std::int64_t j = task.first; j < end; j += nr_)
        scores.pack_w(const_cast<float*>(keys(task.document, task.head, j / nr_)), rows.row(j), rows.stride,
                      static_cast<int>(std::min(nr_, end - j)), width_);
    }
    if (v.empty()) continue;
    const HeadRows rows = head_rows(v, task.start, task.head);
    for (std::int64_t panel = 0; panel * nr_ < width_; ++panel) {
      auto* out = const_cast<float*>(values(task.document, task.head, panel, task.first));
      weighted.pack_values(out, rows.row(task.first) + panel * nr_, rows.stride,
                           static_cast<int>(std::min(nr_, width_ - panel * nr_)), task.tokens);
    }
  }
}

}  // namespace sonde::cpu
