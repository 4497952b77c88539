// Generation and scoring on the emulated GPU give the same bits with CUDA graphs and without, and decoding
// does run as graphs.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "kernels/devices.h"
#include "kernels/emulation/statistics.h"
#include "models/generator.h"
#include "tests/models/activations.h"
#include "tests/models/random_specs.h"

namespace sonde::test {
namespace {

struct Session {
  std::map<std::size_t, Ids> ids;
  std::vector<std::vector<float>> rows;
  std::vector<std::uint64_t> graphs;  // run before each new token of the first prompt
};

Session generate(const ModelSpec& spec, const char* graphs, Precision precision,
                 std::span<const Site> sites) {
  setenv("SONDE_GRAPHS", graphs, 1);
  const auto backend = make_backend("emulated");
  unsetenv("SONDE_GRAPHS");
  const Model model =
      Model::random(spec, {.precision = precision, .weights = {}, .ignored = {}, .run = {}}, 7, *backend);
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = 6;
  options.sequences = 2;
  Session run;
  Generator generator(model, *backend, options, {});
  if (!sites.empty())
    generator.capture(sites, [&](std::size_t, Site, std::int64_t, Tensor row) {
      run.rows.emplace_back(row.row(0), row.row(0) + row.width());
    });
  generator.run(
      {{5, 2, 9}, {1, 7, 3, 4}, {8, 8}},
      [&](std::size_t prompt, std::span<const std::int32_t>) {
        if (prompt == 0) run.graphs.push_back(emulation::statistics().graphs_run);
        return false;
      },
      [&](std::size_t prompt, const Generated& g) { run.ids[prompt] = g.ids; });
  return run;
}

class GraphsOf : public ::testing::TestWithParam<NamedSpec> {};

TEST_P(GraphsOf, GenerationIsTheSameBits) {
  const ModelSpec& spec = GetParam().spec;
  const std::vector<Site> some = {{Hook::resid_post, 0}, {Hook::logits}};
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const std::span<const Site> sites =
        precision == Precision::f32 ? std::span<const Site>() : std::span(some);
    const Session expected = generate(spec, "0", precision, sites),
                  found = generate(spec, "1", precision, sites);
    EXPECT_EQ(found.ids, expected.ids);
    ASSERT_EQ(found.rows.size(), expected.rows.size());
    for (std::size_t i = 0; i < found.rows.size(); ++i)
      EXPECT_EQ(std::memcmp(found.rows[i].data(), expected.rows[i].data(), 4 * found.rows[i].size()), 0) << i;
    EXPECT_EQ(expected.graphs.front(), expected.graphs.back());
    // The prompts are a step of their own; of decoding ones all but the first are replayed.
    ASSERT_EQ(found.graphs.size(), 6u);
    // Where the router is waited for, or longer texts are read again, other work may come in each.
    const bool alike = spec.n_experts == 0 && spec.rope.length_limit() == 0;
    for (std::size_t i = 2; i < 6 && alike; ++i) EXPECT_GT(found.graphs[i], found.graphs[i - 1]) << i;
  }
}

std::vector<NamedSpec> some_specs() {
  std::vector<NamedSpec> specs = random_specs();
  if (std::getenv("SONDE_LONG") == nullptr)
    std::erase_if(specs, [](const NamedSpec& s) {
      return s.name != "llama" && s.name != "gpt2" && s.name != "mixtral" && s.name != "dynamic";
    });
  return specs;
}

INSTANTIATE_TEST_SUITE_P(Families, GraphsOf, ::testing::ValuesIn(some_specs()),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace sonde::test
