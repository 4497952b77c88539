// Attention's bookkeeping: for every query the keys of its document, on the device as lists of T numbers.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/gpu_backend.h"

namespace sonde::SONDE_GPU {

struct QueryLists {
  const std::int32_t* first;  // [T] row of k that holds the document's key 0
  const std::int32_t* own;    // [T] the query's own key, counted in the document
  const std::int32_t* count;  // [T] keys of the document
};

inline QueryLists query_lists(Lists& lists, const Documents& documents, const KeyRanges& keys) {
  std::vector<std::int32_t> first, own, count;
  for (std::size_t d = 0; d + 1 < documents.starts.size(); ++d) {
    const std::int32_t start = documents.starts[d], queries = documents.starts[d + 1] - start;
    const std::int32_t n = keys.count.empty() ? queries : keys.count[d];
    for (std::int32_t i = 0; i < queries; ++i) {
      first.push_back(keys.first.empty() ? start : keys.first[d]);
      own.push_back(n - queries + i);
      count.push_back(n);
    }
  }
  const auto placed = [&](const std::vector<std::int32_t>& list) {
    return lists.get(std::span(list.data(), list.size()));
  };
  return {placed(first), placed(own), placed(count)};
}

// The first key that the query whose own key is `own` sees.
GPU_DEV std::int64_t first_seen(std::int64_t own, std::int64_t window) {
  return window > 0 && own + 1 > window ? own + 1 - window : 0;
}

// A query's score of a key: the scaled product, soft-capped.
struct ScoreRule {
  float scale, softcap;
  std::int64_t window;
  GPU_DEV float operator()(float product) const {
    const float score = product * scale;
    return softcap > 0 ? softcap * tanhf(score / softcap) : score;
  }
};
inline ScoreRule score_rule(const AttentionSpec& spec) { return {spec.scale, spec.softcap, spec.window}; }

}  // namespace sonde::SONDE_GPU
