#include "tests/models/random_decoder.h"

namespace sonde::test {
namespace {

class Draw {
 public:
  explicit Draw(unsigned seed) : generator_(seed) {}
  int upto(int least, int most) {
    return least + static_cast<int>(generator_() % static_cast<unsigned>(most - least + 1));
  }
  bool yes() { return upto(0, 1) == 1; }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[upto(0, static_cast<int>(choices.size()) - 1)];
  }
  Values normal(std::vector<std::int64_t> shape, double mean, double scale) {
    std::normal_distribution<float> values(static_cast<float>(mean), static_cast<float>(scale));
    std::size_t n = 1;
    for (const std::int64_t dim : shape) n *= static_cast<std::size_t>(dim);
    Values drawn{std::move(shape), std::vector<float>(n)};
    for (float& x : drawn.values) x = values(generator_);
    return drawn;
  }

 private:
  std::mt19937 generator_;
};

bool is(const std::string& family, std::initializer_list<const char*> list) {
  for (const char* one : list)
    if (family == one) return true;
  return false;
}

// Draws the rule and writes it as rope_parameters; may set the config's context.
Json draw_rope(Draw& draw, const std::string& family, int width, oracle::Rope& rope, Json& config) {
  rope.theta = draw.of({100.0, 10000.0, 500000.0});
  rope.rule = family == "phi3"
                  ? draw.of({"default", "longrope"})
                  : draw.of({"default", "default", "linear", "dynamic", "yarn", "llama3", "longrope"});
  Json json = {{"rope_type", rope.rule}, {"rope_theta", rope.theta}};
  config["max_position_embeddings"] = 512;
  if (rope.rule == "default") return json;
  rope.original = draw.of({12, 20, 33});
  rope.factor = draw.of({2.0, 4.0, 8.0});
  if (is(rope.rule, {"linear", "dynamic"})) {
    if (rope.rule == "dynamic") config["max_position_embeddings"] = static_cast<int>(rope.original);
    json["factor"] = rope.factor;
    return json;
  }
  config["max_position_embeddings"] = static_cast<int>(rope.original * rope.factor);
  if (rope.rule == "longrope") {
    for (int i = 0; i < width / 2; ++i) {
      rope.short_factor.push_back(1 + draw.upto(0, 100) / 128.0);
      rope.long_factor.push_back(1 + draw.upto(0, 1000) / 64.0);
    }
    json["short_factor"] = rope.short_factor;
    json["long_factor"] = rope.long_factor;
  } else {
    json["factor"] = rope.factor;
  }
  (family == "phi3" ? config : json)["original_max_position_embeddings"] = static_cast<int>(rope.original);
  if (rope.rule == "llama3") {
    json["low_freq_factor"] = rope.low_freq = 1;
    json["high_freq_factor"] = rope.high_freq = draw.of({2.0, 4.0});
  } else if (family != "phi3" && draw.upto(0, 3) == 0) {
    json["attention_factor"] = rope.magnitude = 0.8;
  }
  if (rope.rule == "yarn" && draw.yes()) {
    json["beta_fast"] = rope.beta_fast = 8;
    json["beta_slow"] = rope.beta_slow = 0.5;
  }
  if (rope.rule == "yarn" && draw.upto(0, 2) == 0) json["truncate"] = rope.truncate = false;
  return json;
}

const char* hugging_face_activation(const std::string& name) {
  return name == "gelu_tanh" ? "gelu_pytorch_tanh" : name.c_str();
}

void draw_weights(Draw& draw, RandomDecoder& m) {
  const oracle::Decoder& s = m.spec;
  const bool gemma = is(m.family, {"gemma", "gemma2", "gemma3_text"});
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in, bool bias,
                          double gain = 1) {
    m.w[name] = draw.normal({out, in}, 0, gain / std::sqrt(static_cast<double>(in)));
    if (bias) m.w[name + ".bias"] = draw.normal({out}, 0, 0.3);
  };
  const auto norm = [&](const std::string& name, std::vector<std::int64_t> shape, bool bias) {
    m.w[name] = draw.normal(shape, gemma ? 0 : 1, 0.3);
    for (float& x : m.w[name].values) x += gemma ? 1.0f : 0.0f;  // stored less 1
    if (bias) m.w[name + ".bias"] = draw.normal(std::move(shape), 0, 0.3);
  };
  // Scores without a scale are large by themselves; larger ones would make the pattern a test of float32.
  const double gain = s.score_scale == 1 ? 0.6 : 1.4;
  const bool norm_bias = s.centred_norms && m.family != "cohere";
  const std::int64_t q = s.heads * s.head_width, kv = s.kv_heads * s.head_width;
  m.w["embed"] = draw.normal({s.vocab, s.width}, 0, 1);
  if (s.learned_positions) m.w["positions"] = draw.normal({m.config["n_positions"], s.width}, 0, 0.5);
  for (int l = 0; l < s.layers; ++l) {
    const std::string at = std::to_string(l) + ".";
    if (s.pre_norms) norm(at + "ln1", {s.width}, norm_bias);
    linear(at + "q", q, s.width, m.qkv_bias, gain);
    linear(at + "k", kv, s.width, m.qkv_bias, gain);
    linear(at + "v", kv, s.width, m.qkv_bias);
    if (s.qk_norm != "none")
      for (const auto& [name, heads] : {std::pair{"q_norm", s.heads}, std::pair{"k_norm", s.kv_heads}})
        norm(at + name,
             s.qk_norm == "shared"  ? std::vector<std::int64_t>{s.head_width}
             : s.qk_norm == "whole" ? std::vector<std::int64_t>{heads * s.head_width}
                                    : std::vector<std::int64_t>{heads, s.head_width},
             false);
    linear(at + "o", s.width, q, m.out_bias);
    if (s.post_norms) norm(at + "ln1_post", {s.width}, false), norm(at + "ln2_post", {s.width}, false);
    if (s.pre_norms && !s.shared_norm) norm(at + "ln2", {s.width}, norm_bias);
    const bool routed = s.experts > 0 && (s.dense.empty() || !s.dense[static_cast<std::size_t>(l)]);
    if (routed) linear(at + "router", s.experts, s.width, false, 2);
    for (int e = 0; e < (routed ? s.experts : 1); ++e) {
      const std::string of = routed ? "." + std::to_string(e) : "";
      const int f = routed ? s.expert_width : s.mlp_width;
      if (s.gated) linear(at + "gate" + of, f, s.width, m.mlp_bias);
      linear(at + "up" + of, f, s.width, m.mlp_bias);
      linear(at + "down" + of, s.width, f, m.mlp_bias);
    }
  }
  norm("ln_final", {s.width}, norm_bias);
  if (!m.tied) linear("head", s.vocab, s.width, false);
}

}  // namespace

const std::vector<std::string>& decoder_families() {
  static const std::vector<std::string> families = {
      "llama",       "mistral", "mixtral",  "qwen2", "qwen3", "qwen3_moe", "gemma",      "gemma2",
      "gemma3_text", "gpt2",    "gpt_neox", "phi3",  "olmo2", "stablelm",  "starcoder2", "cohere"};
  return families;
}

RandomDecoder draw_decoder(const std::string& family, unsigned seed) {
  Draw draw(seed);
  RandomDecoder m;
  m.family = family;
  oracle::Decoder& s = m.spec;
  Json& c = m.config;
  const bool gpt2 = family == "gpt2", neox = family == "gpt_neox";
  s.layers = family == "gemma3_text" ? draw.of({1, 7}) : draw.upto(1, 3);
  s.kv_heads = draw.upto(1, 3);
  s.heads = gpt2 || neox ? s.kv_heads : s.kv_heads * draw.upto(1, 3);
  s.head_width = draw.of({8, 8, 10, 14, 16, 22, 24, 32, 64, 128, 256});
  if (s.heads * s.head_width > 256) s.head_width = 8;
  const bool free_width = is(family, {"llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "gemma", "gemma2",
                                      "gemma3_text", "cohere"});
  s.width = free_width ? s.heads * draw.upto(3, 24) : s.heads * s.head_width;
  s.mlp_width = draw.upto(5, 90);
  s.vocab = draw.upto(11, 300);
  s.eps = draw.of({1e-6, 1e-5, 1e-3, 0.02});
  m.tied = draw.yes();
  c = {{"model_type", family},           {"num_hidden_layers", s.layers},
       {"num_attention_heads", s.heads}, {"num_key_value_heads", s.kv_heads},
       {"hidden_size", s.width},         {"intermediate_size", s.mlp_width},
       {"vocab_size", s.vocab},          {"tie_word_embeddings", m.tied}};
  if (free_width) c["head_dim"] = s.head_width;
  if (neox) c.erase("num_key_value_heads");
  const char* eps_key = is(family, {"gpt_neox", "stablelm", "cohere"}) ? "layer_norm_eps"
                        : family == "starcoder2"                       ? "norm_epsilon"
                                                                       : "rms_norm_eps";
  c[eps_key] = s.eps;
  s.centred_norms = is(family, {"gpt2", "gpt_neox", "stablelm", "starcoder2", "cohere"});

  if (is(family, {"gemma", "gemma2", "gemma3_text", "starcoder2"})) s.activation = "gelu_tanh";
  if (neox) s.activation = "gelu";
  c[is(family, {"gemma2", "gemma3_text"}) ? "hidden_activation" : "hidden_act"] =
      hugging_face_activation(s.activation);

  if (is(family,
         {"llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo2", "cohere", "gpt_neox"})) {
    // llama.cpp has no biases there; drawn now and then
    m.qkv_bias = m.out_bias = neox ? draw.upto(0, 3) > 0 : draw.upto(0, 3) == 0;
    c["attention_bias"] = m.qkv_bias;
  }
  if (family == "llama" && draw.upto(0, 3) == 0) c["mlp_bias"] = m.mlp_bias = true;
  if (family == "qwen2") m.qkv_bias = true;
  if (neox) m.mlp_bias = true;

  const int window = draw.of({1, 3, 8, 20, 1000});
  const auto layers = static_cast<std::size_t>(s.layers);
  if (is(family, {"mistral", "mixtral", "phi3", "starcoder2"}) && draw.yes()) {
    c["sliding_window"] = window;
    s.windows.assign(layers, window);
  } else if (family == "mistral") {
    c["sliding_window"] = nullptr;
  }
  if (is(family, {"qwen2", "qwen3", "qwen3_moe"}) && draw.upto(0, 2) == 0) {
    const int first = family == "qwen3_moe" ? 0 : draw.upto(0, 2);
    c["use_sliding_window"] = true, c["sliding_window"] = window, c["max_window_layers"] = first;
    for (int l = 0; l < s.layers; ++l) s.windows.push_back(l >= first ? window : 0);
  }

  int turned = s.head_width;
  if (is(family, {"gpt_neox", "stablelm", "phi3"})) {
    const double part = draw.of({0.25, 0.5, 0.75, 1.0});
    if (const int width = static_cast<int>(s.head_width * part); width >= 2 && width % 2 == 0) turned = width;
    s.rotary_width = turned == s.head_width ? 0 : turned;
  }
  if (!gpt2) {
    Json rope = draw_rope(draw, family, turned, s.rope, c);
    if (is(family, {"gpt_neox", "stablelm", "phi3"}))
      rope["partial_rotary_factor"] = static_cast<double>(turned) / s.head_width;
    c["rope_parameters"] = rope;
    if (s.rope.rule == "llama3") {
      oracle::Rope plain = s.rope;
      plain.rule = "default";
      const auto before = oracle::frequencies(plain, turned, 1),
                 after = oracle::frequencies(s.rope, turned, 1);
      for (std::size_t i = 0; i < before.size(); ++i) m.rope_divisors.push_back(before[i] / after[i]);
    }
  }

  if (is(family, {"gemma", "gemma2", "gemma3_text"})) s.embed_scale = std::sqrt(static_cast<double>(s.width));
  if (is(family, {"gemma2", "gemma3_text"})) {
    s.post_norms = true;
    const int scalar = draw.of({s.head_width, 7});
    c["query_pre_attn_scalar"] = scalar;
    s.score_scale = 1 / std::sqrt(static_cast<double>(scalar));
    c["sliding_window"] = window;
    const bool three = family == "gemma3_text";
    for (int l = 0; l < s.layers; ++l)
      s.windows.push_back((three ? (l + 1) % 6 != 0 : l % 2 == 0) ? window : 0);
    s.logit_cap = draw.of({0.0, 5.0});
    s.score_cap = three ? 0 : draw.of({4.0, 50.0});
    c["final_logit_softcapping"] = s.logit_cap > 0 ? Json(s.logit_cap) : Json(nullptr);
    if (!three) c["attn_logit_softcapping"] = s.score_cap;
    if (three) {
      s.qk_norm = "shared", s.two_ropes = true;
      s.local_rope.theta = draw.of({50.0, 10000.0});
      c["rope_parameters"] = {
          {"full_attention", c["rope_parameters"]},
          {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", s.local_rope.theta}}}};
    }
  }
  if (is(family, {"qwen3", "qwen3_moe"})) s.qk_norm = "shared";
  if (family == "olmo2") s.pre_norms = false, s.post_norms = true, s.qk_norm = "whole";
  if (neox && draw.yes()) s.parallel = true;
  if (neox) c["use_parallel_residual"] = s.parallel;
  if (family == "stablelm") {
    s.parallel = s.shared_norm = draw.yes();
    if (draw.yes()) s.qk_norm = "per_head";
    m.qkv_bias = draw.yes();
    c["use_parallel_residual"] = s.parallel, c["qk_layernorm"] = s.qk_norm != "none",
    c["use_qkv_bias"] = m.qkv_bias;
  }
  if (family == "starcoder2") {
    s.gated = false;
    m.qkv_bias = m.out_bias = m.mlp_bias = draw.upto(0, 3) > 0;
    c["use_bias"] = m.qkv_bias;
  }
  if (neox) s.gated = false;
  if (family == "cohere") {
    s.parallel = s.shared_norm = s.neighbour_pairs = true;
    if (draw.yes()) s.qk_norm = "per_head";
    c["use_qk_norm"] = s.qk_norm != "none";
    c["logit_scale"] = s.logit_scale = draw.of({0.0625, 0.5});
  }
  if (is(family, {"mixtral", "qwen3_moe"})) {
    s.experts = draw.upto(2, 6);
    s.chosen = draw.of({1, 2, s.experts});
    s.expert_width = family == "mixtral" ? s.mlp_width : draw.upto(5, 40);
    c[family == "mixtral" ? "num_local_experts" : "num_experts"] = s.experts;
    c["num_experts_per_tok"] = s.chosen;
    if (family == "qwen3_moe") {
      c["moe_intermediate_size"] = s.expert_width;
      c["norm_topk_prob"] = s.renormalise = draw.yes();
      const int step = draw.of({1, 1, 2}), only = draw.of({-1, -1, 0});
      c["decoder_sparse_step"] = step;
      c["mlp_only_layers"] = only < 0 ? Json::array() : Json{only};
      for (int l = 0; l < s.layers; ++l) s.dense.push_back((l + 1) % step != 0 || l == only);
    }
  }
  if (gpt2) {
    s.gated = false, s.learned_positions = true;
    s.activation = "gelu_tanh";
    m.qkv_bias = m.out_bias = m.mlp_bias = true;
    const bool scaled = draw.upto(0, 3) > 0;
    s.score_scale = scaled ? 0 : 1;
    s.scale_over_depth = draw.yes();
    c = {{"model_type", family},
         {"n_layer", s.layers},
         {"n_head", s.heads},
         {"n_embd", s.width},
         {"vocab_size", s.vocab},
         {"n_inner", s.mlp_width},
         {"n_positions", 80},
         {"layer_norm_epsilon", s.eps},
         {"activation_function", "gelu_new"},
         {"scale_attn_weights", scaled},
         {"tie_word_embeddings", m.tied},
         {"scale_attn_by_inverse_layer_idx", s.scale_over_depth}};
  }
  draw_weights(draw, m);
  return m;
}

}  // namespace sonde::test
