// How the next token is chosen from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace sonde {

struct SamplingOptions {
  bool greedy = false;            // the largest logit, of equals the lowest id
  double temperature = 1;         // above 0
  std::int64_t top_k = 0;         // only the k largest; 0: all
  double top_p = 1;               // only the fewest that hold p of the probability
  double min_p = 0;               // only those with at least min_p times the largest probability
  double repetition_penalty = 1;  // of tokens already there: positive logits divided, negative multiplied
  std::uint64_t seed = 0;
};

// UsageError names the option that cannot be.
void check_sampling(const SamplingOptions& options);

// A row of logits whose next token is wanted: after `history` (prompt and what was generated). The draw
// depends on the options' seed, stream (which prompt) and step alone.
struct WantedToken {
  std::int64_t row;
  std::span<const std::int32_t> history;
  std::uint64_t stream, step;
};

// The next tokens. Filters apply in the order of the options above, the penalty first. logits f32 [T, V] lie
// where the backend computes and may be overwritten; of each row the largest come to the host, and all of it
// only where those don't decide. NaN is an Error.
std::vector<std::int32_t> next_tokens(Backend& backend, Tensor logits, std::span<const WantedToken> wanted,
                                      const SamplingOptions& options);

}  // namespace sonde
