// Random models of every family against the float64 oracle: each hook, packed and one by one, fused and in
// steps, from a Hugging Face folder and from the GGUF file that llama.cpp writes of it.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/models/oracle_compare.h"
#include "tests/models/oracle_greedy.h"
#include "tests/models/random_decoder.h"

namespace sonde::test {
namespace {

// Around the contexts from which the scaled rules of RoPE stretch, and past windows.
const int kLengths[] = {1, 7, 12, 13, 21, 1, 33, 34, 50};

std::vector<Ids> documents(int vocab, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<Ids> result;
  for (const int length : kLengths) {
    result.emplace_back();
    for (int t = 0; t < length; ++t)
      result.back().push_back(static_cast<std::int32_t>(generator() % static_cast<unsigned>(vocab)));
  }
  return result;
}

std::vector<oracle::Activations> truth(const RandomDecoder& m, const std::vector<Ids>& inputs) {
  std::vector<oracle::Activations> expected;
  const oracle::Weights weights = m.oracle_weights();
  for (const Ids& ids : inputs)
    expected.push_back(oracle::forward(m.spec, weights, std::vector<int>(ids.begin(), ids.end())));
  return expected;
}

class FamilyForward : public ::testing::TestWithParam<std::string> {
 protected:
  static unsigned models() { return std::getenv("SONDE_LONG") ? 40 : 4; }
  std::unique_ptr<Backend> backend = make_cpu_backend();
};

TEST_P(FamilyForward, EveryHookAgrees) {
  for (unsigned seed = 0; seed < models(); ++seed) {
    const RandomDecoder drawn = draw_decoder(GetParam(), seed);
    SCOPED_TRACE("model " + std::to_string(seed) + ": " + drawn.config.dump());
    const std::vector<Ids> inputs = documents(drawn.spec.vocab, seed);
    TempFolder folder;
    drawn.write_folder(folder.path(), seed % 2 == 0 ? ExpertFiles::one_by_one : ExpertFiles::stacked);
    const Model model = Model::load(folder.path(), {}, *backend);
    const std::vector<Activations> found = run_packed(model, *backend, inputs);
    expect_same_bits(found, run_alone(model, *backend, inputs), "packed and alone");
    RunOptions outside;  // where no hook looks inside, norms are fused and attention writes no scores
    for (const Site site : model.spec.sites())
      if (info(site.hook).cost == Cost::free) outside.sites.push_back(site);
    const std::vector<Activations> fused = run_packed(model, *backend, inputs, outside);
    const std::vector<oracle::Activations> expected = truth(drawn, inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      ASSERT_EQ(found[i].size(), expected[i].size());
      const std::string what = "document of " + std::to_string(inputs[i].size()) + " tokens";
      expect_close(found[i], expected[i], what);
      expect_close(fused[i], expected[i], what + ", fused");
    }
    if (HasFailure()) return;
  }
}

TEST_P(FamilyForward, GgufIsTheSameModel) {
  unsigned compared = 0;
  for (unsigned seed = 0; seed < 50 * models() && compared < models(); ++seed) {
    const RandomDecoder drawn = draw_decoder(GetParam(), seed);
    if (!drawn.has_gguf()) continue;
    ++compared;
    SCOPED_TRACE("model " + std::to_string(seed) + ": " + drawn.config.dump());
    const std::vector<Ids> inputs = documents(drawn.spec.vocab, seed);
    const std::vector<oracle::Activations> expected = truth(drawn, inputs);
    TempFolder folder;
    for (const bool old_expert_names : {false, true}) {
      if (old_expert_names && drawn.spec.experts == 0) continue;
      const auto path = folder.path() / (old_expert_names ? "old.gguf" : "model.gguf");
      drawn.gguf(old_expert_names).write(path);
      const Model model = Model::load(path, {}, *backend);
      const std::vector<Activations> found = run_packed(model, *backend, inputs);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_EQ(found[i].size(), expected[i].size());
        expect_close(found[i], expected[i], "document of " + std::to_string(inputs[i].size()) + " tokens");
      }
    }
    if (HasFailure()) return;
  }
  EXPECT_EQ(compared, models());
}

// Greedy decoding from the cache takes the oracle's tokens, also across the edge where RoPE's rules stretch.
TEST_P(FamilyForward, GreedyTokensAreTheOracles) {
  for (unsigned seed = 0; seed < 2; ++seed) {
    const RandomDecoder drawn = draw_decoder(GetParam(), seed);
    SCOPED_TRACE("model " + std::to_string(seed) + ": " + drawn.config.dump());
    TempFolder folder;
    drawn.write_folder(folder.path());
    const Model model = Model::load(folder.path(), {}, *backend);
    std::vector<Ids> inputs = documents(drawn.spec.vocab, seed);
    inputs.resize(5);
    expect_greedy_tokens(model, *backend, drawn, inputs, 10);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyForward, ::testing::ValuesIn(decoder_families()),
                         [](const auto& p) { return p.param; });

}  // namespace
}  // namespace sonde::test
