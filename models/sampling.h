// How the next token is chosen from logits.
#pragma once

#include <cstdint>
#include <span>

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

// The next token after `history` (prompt and what was generated). Filters apply in the order of the options
// above, the penalty first. The draw depends on seed, stream (which prompt) and step alone. logits are f32
// [V] and may be overwritten; NaN is an Error.
std::int32_t next_token(std::span<float> logits, std::span<const std::int32_t> history,
                        const SamplingOptions& options, std::uint64_t stream, std::uint64_t step);

}  // namespace sonde
