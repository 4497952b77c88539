// The forward against the float64 oracle, for shapes that no golden has: sizes that divide nothing, one head,
// one kv head, head widths from 2 to 256, every RoPE rule, both config generations, documents of 1 to 257
// tokens together.
#include <gtest/gtest.h>

#include "kernels/devices.h"
#include "tests/models/model_folder.h"
#include "tests/models/oracle_compare.h"

namespace sonde::test {
namespace {

struct Case {
  std::string name;
  TinyLlama model;
  std::vector<int> lengths;  // of the documents
};

TinyLlama shape(int layers, int width, int heads, int kv_heads, int head_width, int mlp_width, int vocab) {
  TinyLlama m;
  m.layers = layers;
  m.width = width;
  m.heads = heads;
  m.kv_heads = kv_heads;
  m.head_width = head_width;
  m.mlp_width = mlp_width;
  m.vocab = vocab;
  return m;
}

std::vector<Case> cases() {
  std::vector<Case> list;
  std::vector<int> lengths = {7, 1, 257, 33, 1, 64};
  const auto add = [&](const std::string& name, TinyLlama m,
                       const std::function<void(TinyLlama&)>& change = {}) {
    if (change) change(m);
    list.push_back({name, m, lengths});
  };
  add("primes", shape(2, 37, 5, 5, 14, 53, 101));
  add("one_head_of_two", shape(2, 7, 1, 1, 2, 11, 13), [](TinyLlama& m) { m.theta = 100; });
  add("head_width_256", shape(1, 33, 2, 1, 256, 65, 67));
  add("multi_query", shape(2, 48, 8, 1, 10, 70, 257), [](TinyLlama& m) { m.tied = true; });
  add("biases_tied", shape(2, 31, 6, 3, 6, 47, 59), [](TinyLlama& m) {
    m.attention_bias = m.mlp_bias = m.tied = true;
    m.eps = 0.01;
  });
  add("attention_bias_only", shape(1, 40, 4, 2, 18, 33, 71), [](TinyLlama& m) { m.attention_bias = true; });
  add("mlp_bias_only", shape(1, 40, 4, 4, 8, 33, 71), [](TinyLlama& m) { m.mlp_bias = true; });
  add("three_layers_wide_mlp", shape(3, 65, 3, 3, 22, 300, 331), [](TinyLlama& m) { m.theta = 500000; });
  add("linear", shape(2, 29, 4, 2, 16, 41, 61), [](TinyLlama& m) {
    m.rope = {{"rope_type", "linear"}, {"factor", 2.5}};
  });
  add("dynamic", shape(2, 29, 4, 2, 16, 41, 61), [](TinyLlama& m) {
    m.context = 33;  // documents of 33 are not stretched, of 257 are
    m.rope = {{"rope_type", "dynamic"}, {"factor", 3.0}};
  });
  add("llama3", shape(2, 29, 4, 2, 32, 41, 61), [](TinyLlama& m) {
    m.theta = 500000;
    m.rope = {{"rope_type", "llama3"},
              {"factor", 8.0},
              {"low_freq_factor", 1.0},
              {"high_freq_factor", 4.0},
              {"original_max_position_embeddings", 64}};
  });
  add("yarn", shape(2, 29, 4, 2, 32, 41, 61), [](TinyLlama& m) {
    m.rope = {{"rope_type", "yarn"}, {"factor", 16.0}, {"original_max_position_embeddings", 48}};
  });
  add("yarn_with_everything", shape(2, 29, 4, 2, 24, 41, 61), [](TinyLlama& m) {
    m.rope = {{"rope_type", "yarn"},    {"factor", 4.0},    {"original_max_position_embeddings", 128},
              {"beta_fast", 8.0},       {"beta_slow", 0.5}, {"truncate", false},
              {"attention_factor", 0.8}};
  });
  // And shapes that nobody chose.
  lengths = {7, 1, 33, 65};
  std::mt19937 generator(20260101);
  const auto draw = [&](int least, int most) {
    return least + static_cast<int>(generator() % static_cast<unsigned>(most - least + 1));
  };
  for (int i = 0; i < 12; ++i) {
    const int kv_heads = draw(1, 3), layers = draw(1, 3), width = draw(5, 80), group = draw(1, 4);
    const int head_width = 2 * draw(1, 20), mlp_width = draw(3, 120), vocab = draw(11, 300);
    TinyLlama m = shape(layers, width, kv_heads * group, kv_heads, head_width, mlp_width, vocab);
    m.attention_bias = draw(0, 1) == 1;
    m.mlp_bias = draw(0, 1) == 1;
    m.tied = draw(0, 1) == 1;
    m.eps = std::pow(10.0, -draw(2, 6));
    m.theta = 1000 * draw(1, 1000);
    add("drawn_" + std::to_string(i), m);
  }
  return list;
}

// "model.layers.0.self_attn.q_proj.weight" -> "0.q"
std::string oracle_name(std::string name) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  };
  for (const char* gone : {".weight", "model.", "layers.", "self_attn.", "mlp.", "_proj"}) replace(gone, "");
  for (const auto& [from, to] :
       {std::pair{"embed_tokens", "embed"}, std::pair{"lm_head", "head"}, std::pair{"input_layernorm", "ln1"},
        std::pair{"post_attention_layernorm", "ln2"}})
    replace(from, to);
  return name == "norm" ? "ln_final" : name;
}

oracle::Decoder oracle_of(const TinyLlama& m) {
  oracle::Decoder o;
  o.layers = m.layers;
  o.width = m.width;
  o.heads = m.heads;
  o.kv_heads = m.kv_heads;
  o.head_width = m.head_width;
  o.mlp_width = m.mlp_width;
  o.vocab = m.vocab;
  o.eps = m.eps;
  o.rope.theta = m.theta;
  if (!m.rope.is_object()) return o;
  o.rope.rule = m.rope["rope_type"];
  o.rope.factor = m.rope["factor"];
  o.rope.original = m.rope.value("original_max_position_embeddings", m.context);
  o.rope.low_freq = m.rope.value("low_freq_factor", 1.0);
  o.rope.high_freq = m.rope.value("high_freq_factor", 4.0);
  o.rope.beta_fast = m.rope.value("beta_fast", 32.0);
  o.rope.beta_slow = m.rope.value("beta_slow", 1.0);
  o.rope.truncate = m.rope.value("truncate", true);
  if (m.rope.contains("attention_factor")) o.rope.magnitude = m.rope["attention_factor"];
  return o;
}

std::vector<Ids> documents(int vocab, unsigned seed, const std::vector<int>& lengths) {
  std::mt19937 generator(seed);
  std::vector<Ids> result;
  for (const int length : lengths) {
    Ids ids;
    for (int t = 0; t < length; ++t)
      ids.push_back(static_cast<std::int32_t>(generator() % static_cast<unsigned>(vocab)));
    result.push_back(ids);
  }
  return result;
}

class OracleForward : public ::testing::TestWithParam<Case> {};

TEST_P(OracleForward, EveryHookAgrees) {
  const TinyLlama& tiny = GetParam().model;
  const auto seed = static_cast<unsigned>(std::hash<std::string>{}(GetParam().name));
  const std::vector<Ids> inputs = documents(tiny.vocab, seed, GetParam().lengths);
  oracle::Weights weights;
  for (const auto& [name, tensor] : random_weights(tiny, seed))
    weights[oracle_name(name)] = std::vector<double>(tensor.second.begin(), tensor.second.end());

  const auto backend = make_cpu_backend();
  std::vector<Activations> all[2], fused;
  for (const bool classic : {false, true}) {
    TempFolder folder;
    write_model(folder.path(), config_of(tiny, classic), stored_weights(tiny, seed));
    const Model model = Model::load(folder.path(), {}, *backend);
    all[classic] = run_packed(model, *backend, inputs);
    expect_same_bits(all[classic], run_alone(model, *backend, inputs), "packed and alone");
    // Where no hook looks inside, norms are fused and attention never writes its scores.
    RunOptions outside;
    for (const Site site : model.spec.sites())
      if (info(site.hook).cost == Cost::free) outside.sites.push_back(site);
    fused = run_packed(model, *backend, inputs, outside);
    expect_same_bits(fused, run_alone(model, *backend, inputs, outside), "fused, packed and alone");
  }
  expect_same_bits(all[0], all[1], "generations of config keys");

  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const oracle::Activations expected =
        oracle::forward(oracle_of(tiny), weights, std::vector<int>(inputs[i].begin(), inputs[i].end()));
    ASSERT_EQ(expected.size(), all[0][i].size());
    const std::string what = "document of " + std::to_string(inputs[i].size()) + " tokens";
    expect_close(all[0][i], expected, what);
    expect_close(fused[i], expected, what + ", fused");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, OracleForward, ::testing::ValuesIn(cases()),
                         [](const auto& p) { return p.param.name; });

// Head widths of real models on the emulated GPU, and on a GPU where there is one: f32 as on the CPU, bf16 on
// tensor cores with what rounding operands costs.
class OracleOnDevice : public ::testing::TestWithParam<std::tuple<int, std::string>> {};

TEST_P(OracleOnDevice, EveryHookAgrees) {
  const auto [head_width, device] = GetParam();
  if (device == "cuda" && cuda_gpus().empty()) GTEST_SKIP() << "no GPU: " << why_no_gpu();
  const TinyLlama tiny = shape(1, 64, 4, 2, head_width, 72, 61);
  const auto seed = static_cast<unsigned>(head_width);
  const std::vector<Ids> inputs = documents(tiny.vocab, seed, {7, 1, 70});
  oracle::Weights weights;
  for (const auto& [name, tensor] : random_weights(tiny, seed))
    weights[oracle_name(name)] = std::vector<double>(tensor.second.begin(), tensor.second.end());
  TempFolder folder;
  write_model(folder.path(), config_of(tiny, false), stored_weights(tiny, seed));
  const auto backend = make_backend(device);
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const Model model =
        Model::load(folder.path(), {.precision = precision, .weights = {}, .ignored = {}}, *backend);
    RunOptions outside;  // fused
    for (const Site site : model.spec.sites())
      if (info(site.hook).cost == Cost::free) outside.sites.push_back(site);
    for (const RunOptions& options : {RunOptions{}, outside}) {
      const std::vector<Activations> found = run_packed(model, *backend, inputs, options);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const oracle::Activations expected =
            oracle::forward(oracle_of(tiny), weights, std::vector<int>(inputs[i].begin(), inputs[i].end()));
        const std::string what = "document of " + std::to_string(inputs[i].size()) + " tokens";
        expect_close(found[i], expected, what, precision == Precision::f32 ? 5e-6 : 3e-2);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(HeadWidths, OracleOnDevice,
                         ::testing::Combine(::testing::Values(64, 80, 96, 128, 256),
                                            ::testing::Values("emulated", "cuda")),
                         [](const auto& p) {
                           return "of_" + std::to_string(std::get<0>(p.param)) + "_" + std::get<1>(p.param);
                         });

// The rules differ from each other where the cases above use them, so that agreement means something.
TEST(OracleForward, TheRulesOfRopeDiffer) {
  std::vector<std::pair<std::string, std::vector<double>>> seen;
  for (const Case& c : cases())
    if (c.model.rope.is_object())
      seen.emplace_back(c.name, oracle::frequencies(oracle_of(c.model).rope, 16, 257));
  for (std::size_t i = 0; i < seen.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      double difference = 0;
      for (std::size_t k = 0; k < seen[i].second.size(); ++k)
        difference = std::max(difference, std::abs(seen[i].second[k] / seen[j].second[k] - 1));
      EXPECT_GT(difference, 0.05) << seen[i].first << " and " << seen[j].first;
    }
  EXPECT_EQ(seen.size(), 5u);
}

}  // namespace
}  // namespace sonde::test
