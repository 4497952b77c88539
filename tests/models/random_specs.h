// Small specs that between them have every axis of ModelSpec, for Model::random.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "models/spec.h"

namespace sonde::test {

inline ModelSpec llama_like() {
  ModelSpec spec;
  spec.family = "llama";
  spec.n_layers = 3;
  spec.d_model = 28;
  spec.n_heads = 4;
  spec.n_kv_heads = 2;
  spec.d_head = 10;
  spec.d_mlp = 44;
  spec.vocab = 53;
  spec.context = 128;
  spec.qkv_bias = true;
  return spec;
}

inline ModelSpec gemma3_like() {
  ModelSpec spec = llama_like();
  spec.family = "gemma3_text";
  spec.post_norms = true;
  spec.qk_norm = QkNorm::shared;
  spec.qkv_bias = false;
  spec.windows = {3, 0, 2};
  spec.local_rope = RopeSpec{};
  spec.local_rope->theta = 500;
  spec.attn_softcap = 4;
  spec.logit_softcap = 5;
  spec.attn_scale = 0.4;
  spec.activation = Activation::gelu_tanh;
  spec.embed_scale = 5.3;
  spec.tied_head = true;
  return spec;
}

inline ModelSpec gpt2_like() {
  ModelSpec spec = llama_like();
  spec.family = "gpt2";
  spec.norm = NormKind::layer;
  spec.norm_bias = spec.attn_out_bias = spec.mlp_bias = true;
  spec.n_kv_heads = 4;
  spec.learned_positions = true;
  spec.gated_mlp = false;
  spec.activation = Activation::gelu;
  return spec;
}

inline ModelSpec neox_like() {
  ModelSpec spec = gpt2_like();
  spec.family = "gpt_neox";
  spec.learned_positions = false;
  spec.order = BlockOrder::parallel;
  spec.rope.width = 4;
  return spec;
}

inline ModelSpec cohere_like() {
  ModelSpec spec = llama_like();
  spec.family = "cohere";
  spec.norm = NormKind::layer;
  spec.order = BlockOrder::parallel;
  spec.shared_norm = true;
  spec.qk_norm = QkNorm::per_head;
  spec.rope.pairs = RopePairs::neighbours;
  spec.logit_scale = 0.25;
  spec.qkv_bias = false;
  return spec;
}

inline ModelSpec olmo2_like() {
  ModelSpec spec = llama_like();
  spec.family = "olmo2";
  spec.pre_norms = false;
  spec.post_norms = true;
  spec.qk_norm = QkNorm::whole;
  spec.qkv_bias = false;
  return spec;
}

inline ModelSpec mixtral_like() {
  ModelSpec spec = llama_like();
  spec.family = "mixtral";
  spec.qkv_bias = false;
  spec.n_experts = 5;
  spec.experts_per_token = 2;
  spec.d_expert = 22;
  spec.dense_layers = {false, true, false};
  return spec;
}

inline ModelSpec longrope_like() {
  ModelSpec spec = llama_like();
  spec.family = "phi3";
  spec.rope.scaling = RopeScaling::longrope;
  spec.rope.original_context = 9;
  spec.rope.short_factors = {1, 1.1, 1.2, 1.3, 1.4};
  spec.rope.long_factors = {1, 2, 4, 8, 16};
  spec.rope.attention_factor = 1.2;
  return spec;
}

inline ModelSpec dynamic_like() {
  ModelSpec spec = llama_like();
  spec.rope.scaling = RopeScaling::dynamic;
  spec.rope.original_context = 8;
  spec.rope.factor = 3;
  return spec;
}

struct NamedSpec {
  std::string name;
  ModelSpec spec;
};
inline void PrintTo(const NamedSpec& s, std::ostream* out) { *out << s.name; }

inline std::vector<NamedSpec> random_specs() {
  return {{"llama", llama_like()},     {"gemma3", gemma3_like()},     {"gpt2", gpt2_like()},
          {"gpt_neox", neox_like()},   {"cohere", cohere_like()},     {"olmo2", olmo2_like()},
          {"mixtral", mixtral_like()}, {"longrope", longrope_like()}, {"dynamic", dynamic_like()}};
}

}  // namespace sonde::test
