// Llamas of awkward sizes drawn at random, every hook against the float64 oracle.
#include <random>

#include "tests/models/activations.h"
#include "tests/models/model_folder.h"
#include "tests/oracle/llama_forward.h"

namespace sonde {
namespace {

using test::Ids;
using test::TinyLlama;

TinyLlama draw(std::mt19937& generator, const std::string& rule) {
  const auto one_of = [&](std::initializer_list<int> values) {
    return *(values.begin() + generator() % values.size());
  };
  TinyLlama m;
  m.layers = one_of({1, 2, 3});
  m.width = one_of({7, 24, 33, 64});
  m.kv_heads = one_of({1, 2, 3});
  m.heads = m.kv_heads * one_of({1, 2, 5});
  m.head_width = one_of({4, 6, 16, 34, 130});
  m.mlp_width = one_of({1, 33, 80});
  m.vocab = one_of({2, 61, 257});
  m.attention_bias = one_of({0, 1});
  m.mlp_bias = one_of({0, 1});
  m.tied = one_of({0, 1});
  m.eps = one_of({0, 1}) ? 1e-6 : 3e-3;
  m.theta = one_of({100, 10000, 500000});
  if (rule == "linear") m.rope = {{"rope_type", rule}, {"factor", 3.5}};
  if (rule == "dynamic") m.rope = {{"rope_type", rule}, {"factor", 2.0}}, m.context = 16;
  if (rule == "llama3")
    m.rope = {{"rope_type", rule},
              {"factor", 8.0},
              {"low_freq_factor", 1.0},
              {"high_freq_factor", 4.0},
              {"original_max_position_embeddings", 32}};
  if (rule == "yarn")
    m.rope = {
        {"rope_type", rule}, {"factor", 4.0}, {"original_max_position_embeddings", 64}, {"beta_fast", 8.0}};
  return m;
}

oracle::Llama oracle_of(const TinyLlama& m) {
  oracle::Llama o{.layers = m.layers,
                  .width = m.width,
                  .heads = m.heads,
                  .kv_heads = m.kv_heads,
                  .head_width = m.head_width,
                  .mlp_width = m.mlp_width,
                  .vocab = m.vocab,
                  .eps = m.eps,
                  .rope = {}};
  o.rope.theta = m.theta;
  o.rope.original = m.context;
  if (!m.rope.is_object()) return o;
  o.rope.rule = m.rope["rope_type"];
  o.rope.factor = m.rope["factor"];
  o.rope.original = m.rope.value("original_max_position_embeddings", m.context);
  o.rope.beta_fast = m.rope.value("beta_fast", 32.0);
  return o;
}

class RandomLlama : public testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(RandomLlama, IsTheOracle) {
  const auto [rule, seed] = GetParam();
  std::mt19937 generator(static_cast<unsigned>(seed) * 7919u + static_cast<unsigned>(rule[0]));
  const TinyLlama m = draw(generator, rule);
  const test::TempFolder folder;
  test::write_model(folder.path(), test::config_of(m, seed % 2 == 1), test::stored_weights(m, generator()));
  const auto backend = make_cpu_backend();
  const Model model = Model::load(folder.path(), {}, *backend);

  oracle::Weights weights;
  std::mt19937 again(static_cast<unsigned>(seed) * 7919u + static_cast<unsigned>(rule[0]));
  draw(again, rule);
  for (const auto& [name, tensor] : test::random_weights(m, again()))
    weights[name].assign(tensor.second.begin(), tensor.second.end());

  std::vector<Ids> documents;
  for (const int length : {1, 33, 7, seed == 0 ? 257 : 40}) {
    Ids ids;
    for (int i = 0; i < length; ++i)
      ids.push_back(static_cast<int>(generator() % static_cast<unsigned>(m.vocab)));
    documents.push_back(ids);
  }
  // Errors of a site are taken over all documents: the few numbers of a single token may all be near zero.
  const auto found = test::run_packed(model, *backend, documents);
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, std::vector<double>> truths;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const oracle::Activations expected = oracle::forward(oracle_of(m), weights, documents[d]);
    ASSERT_EQ(found[d].size(), expected.size());
    for (const auto& [site, captured] : found[d]) {
      const oracle::Array& truth = expected.at(site);
      const auto n = static_cast<std::int64_t>(documents[d].size());
      const bool keys = site.ends_with("attn_scores") || site.ends_with("pattern");
      const auto rows = keys ? test::rows_first(truth.values, m.heads, n) : truth.values;
      values[site].insert(values[site].end(), captured.values.begin(), captured.values.end());
      truths[site].insert(truths[site].end(), rows.begin(), rows.end());
    }
  }
  for (const auto& [site, all] : values) EXPECT_LE(test::relative_error(all, truths.at(site)), 5e-6) << site;
}

INSTANTIATE_TEST_SUITE_P(Rules, RandomLlama,
                         testing::Combine(testing::Values("none", "linear", "dynamic", "llama3", "yarn"),
                                          testing::Range(0, 6)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace sonde
