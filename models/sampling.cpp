#include "models/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "runtime/error.h"

namespace sonde {
namespace {

// A number in [0, 1) that three numbers decide: the finaliser of SplitMix64 over each in turn.
double draw(std::uint64_t seed, std::uint64_t stream, std::uint64_t step) {
  std::uint64_t x = 0;
  for (const std::uint64_t word : {seed, stream, step}) {
    x += word + 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x ^= x >> 31;
  }
  return static_cast<double>(x >> 11) * 0x1p-53;
}

// The penalty of CTRL (arXiv:1909.05858), once per token whatever its count.
void penalise(std::span<float> logits, std::span<const std::int32_t> history, double penalty) {
  if (penalty == 1) return;
  std::vector<std::int32_t> seen(history.begin(), history.end());
  std::ranges::sort(seen);
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const std::int32_t id : seen) {
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = static_cast<float>(logit > 0 ? static_cast<double>(logit) / penalty
                                         : static_cast<double>(logit) * penalty);
  }
}

}  // namespace

void check_sampling(const SamplingOptions& o) {
  const auto expect = [](bool good, const char* option, double found, const char* expected) {
    if (!good) throw UsageError(fmt::format("--{}: found {}, expected {}", option, found, expected));
  };
  expect(o.temperature > 0 && std::isfinite(o.temperature), "temperature", o.temperature,
         "above 0 (--greedy takes the most probable token)");
  expect(o.top_k >= 0, "top-k", static_cast<double>(o.top_k), "at least 0");
  expect(o.top_p > 0 && o.top_p <= 1, "top-p", o.top_p, "above 0 and at most 1");
  expect(o.min_p >= 0 && o.min_p <= 1, "min-p", o.min_p, "0 to 1");
  expect(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "repetition-penalty",
         o.repetition_penalty, "above 0");
}

std::int32_t next_token(std::span<float> logits, std::span<const std::int32_t> history,
                        const SamplingOptions& options, std::uint64_t stream, std::uint64_t step) {
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::isnan(logits[i])) fail("logits: token {} has NaN after {} tokens", i, history.size());
  penalise(logits, history, options.repetition_penalty);
  const auto largest = std::ranges::max_element(logits);
  if (!std::isfinite(*largest))
    fail("logits: the largest is {} after {} tokens, expected a finite number", *largest, history.size());
  if (options.greedy) return static_cast<std::int32_t>(largest - logits.begin());

  // Candidates in descending order of logit, of equals the lower id first.
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const auto k = static_cast<std::size_t>(options.top_k);
  if (k > 0 && k < ids.size()) {
    std::ranges::partial_sort(ids, ids.begin() + static_cast<std::ptrdiff_t>(k), before);
    ids.resize(k);
  } else {
    std::ranges::sort(ids, before);
  }
  std::vector<double> weights;  // relative to the largest
  for (const std::int32_t id : ids)
    weights.push_back(
        std::exp(static_cast<double>(logits[static_cast<std::size_t>(id)] - *largest) / options.temperature));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t kept = 0;
  double sum = 0;
  while (kept < weights.size() &&
         (kept == 0 || (sum < options.top_p * all && weights[kept] >= options.min_p)))
    sum += weights[kept++];

  double left = draw(options.seed, stream, step) * sum;
  for (std::size_t i = 0; i + 1 < kept; ++i)
    if ((left -= weights[i]) < 0) return ids[i];
  return ids[kept - 1];
}

}  // namespace sonde
