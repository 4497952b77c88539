// Greedy decoding from the cache against the oracle's logits over the whole text so far, token by token.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/generator.h"
#include "tests/models/random_decoder.h"

namespace sonde::test {

// Each token has the oracle's best logit, or one that is equal to 1e-4 of it; every prompt gets max_new of
// them.
inline void expect_greedy_tokens(const Model& model, Backend& backend, const RandomDecoder& drawn,
                                 const std::vector<std::vector<std::int32_t>>& prompts, int max_new) {
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = max_new;
  options.context = 80;
  Generator generator(model, backend, options, {});
  const oracle::Weights weights = drawn.oracle_weights();
  std::size_t done = 0;
  generator.run(
      prompts, [](std::size_t, std::span<const std::int32_t>) { return false; },
      [&](std::size_t prompt, const Generated& generated) {
        ++done;
        std::vector<int> ids(prompts[prompt].begin(), prompts[prompt].end());
        for (const std::int32_t id : generated.ids) {
          const auto logits = oracle::forward(drawn.spec, weights, ids).at("logits").values;
          const auto last = logits.end() - drawn.spec.vocab;
          const double best = *std::max_element(last, logits.end());
          EXPECT_GE(last[id], best - 1e-4 * std::abs(best))
              << "prompt " << prompt << ", " << ids.size() << " tokens";
          ids.push_back(id);
        }
        EXPECT_EQ(static_cast<int>(generated.ids.size()), max_new);
      });
  EXPECT_EQ(done, prompts.size());
}

}  // namespace sonde::test
