#include "models/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

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

// Once per token whatever its count.
void penalise(Backend& backend, Tensor logits, std::span<const WantedToken> wanted, double penalty) {
  if (penalty == 1) return;
  std::vector<std::int32_t> rows, columns;
  for (const WantedToken& w : wanted) {
    std::vector<std::int32_t> seen(w.history.begin(), w.history.end());
    std::ranges::sort(seen);
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    rows.insert(rows.end(), seen.size(), static_cast<std::int32_t>(w.row));
    columns.insert(columns.end(), seen.begin(), seen.end());
  }
  backend.penalise(logits, rows, columns, penalty);
}

// A draw among candidates in descending order; all: the weights, relative to the largest, of those and,
// unless they are complete, of what comes after them. None where those would have to be known.
std::optional<std::int32_t> choose(std::span<const Candidate> candidates, bool complete, double all,
                                   const SamplingOptions& options, double drawn) {
  std::vector<double> weights;
  for (const Candidate& c : candidates)
    weights.push_back(
        std::exp(static_cast<double>(c.value - candidates.front().value) / options.temperature));
  if (complete) all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t kept = 0;
  double sum = 0;
  while (kept < weights.size() &&
         (kept == 0 || (sum < options.top_p * all && weights[kept] >= options.min_p)))
    sum += weights[kept++];
  const bool goes_on = !complete && kept == weights.size() && sum < options.top_p * all;
  if (goes_on && (options.top_p < 1 || options.min_p > 0)) return std::nullopt;

  double left = drawn * (goes_on ? all : sum);
  const std::size_t tried = goes_on ? kept : kept - 1;
  for (std::size_t i = 0; i < tried; ++i)
    if ((left -= weights[i]) < 0) return candidates[i].index;
  if (goes_on) return std::nullopt;
  return candidates[kept - 1].index;
}

// All of a row, or the k largest, in order.
std::vector<Candidate> sorted(std::span<const float> row, std::size_t k) {
  std::vector<Candidate> all(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) all[i] = {row[i], static_cast<std::int32_t>(i)};
  std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(k),
                            [](const Candidate& a, const Candidate& b) {
                              return a.value > b.value || (a.value == b.value && a.index < b.index);
                            });
  all.resize(k);
  return all;
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

std::vector<std::int32_t> next_tokens(Backend& backend, Tensor logits, std::span<const WantedToken> wanted,
                                      const SamplingOptions& options) {
  penalise(backend, logits, wanted, options.repetition_penalty);
  const std::int64_t rows = logits.rows(), vocab = logits.width();
  const std::int64_t asked = options.greedy ? 1 : options.top_k > 0 ? std::min(options.top_k, vocab) : vocab;
  const std::int64_t k = std::min(asked, Backend::kMostCandidates);
  std::vector<Candidate> largest(static_cast<std::size_t>(rows * k));
  backend.top_k(largest, logits, k);
  for (const WantedToken& w : wanted) {
    const Candidate& first = largest[static_cast<std::size_t>(w.row * k)];
    if (std::isnan(first.value))
      fail("logits: token {} has NaN after {} tokens", first.index, w.history.size());
    if (!std::isfinite(first.value))
      fail("logits: the largest is {} after {} tokens, expected a finite number", first.value,
           w.history.size());
  }

  std::vector<double> log_probs(static_cast<std::size_t>(rows));  // of each row's first candidate
  if (k < asked) {
    std::vector<std::int32_t> first;
    for (std::int64_t r = 0; r < rows; ++r) first.push_back(largest[static_cast<std::size_t>(r * k)].index);
    backend.log_softmax_at(log_probs, logits, first, static_cast<float>(options.temperature));
  }
  std::vector<std::int32_t> tokens;
  Buffer memory;
  for (const WantedToken& w : wanted) {
    const auto candidates =
        std::span(largest).subspan(static_cast<std::size_t>(w.row * k), static_cast<std::size_t>(k));
    const double drawn = draw(options.seed, w.stream, w.step);
    // Of more than the candidates the sum of all weights is known, where all tokens may be drawn.
    std::optional<std::int32_t> token;
    if (k == asked || asked == vocab)
      token = choose(candidates, k == asked, std::exp(-log_probs[static_cast<std::size_t>(w.row)]), options,
                     drawn);
    if (!token) {
      const Tensor row = backend.on_host(logits.slice_rows(w.row, 1), memory);
      token = choose(sorted({row.f32(), static_cast<std::size_t>(vocab)}, static_cast<std::size_t>(asked)),
                     true, 0, options, drawn);
    }
    tokens.push_back(*token);
  }
  return tokens;
}

}  // namespace sonde
