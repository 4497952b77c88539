// Qwen 3 with mixtures of experts (arXiv:2505.09388): Qwen 3 whose MLPs, but for some layers, are experts.
#include <algorithm>

#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kPerLayer[] = {
    {Part::ln1, "input_layernorm.weight"},
    {Part::q, "self_attn.q_proj.weight"},
    {Part::q_bias, "self_attn.q_proj.bias"},
    {Part::k, "self_attn.k_proj.weight"},
    {Part::k_bias, "self_attn.k_proj.bias"},
    {Part::v, "self_attn.v_proj.weight"},
    {Part::v_bias, "self_attn.v_proj.bias"},
    {Part::q_norm, "self_attn.q_norm.weight"},
    {Part::k_norm, "self_attn.k_norm.weight"},
    {Part::attn_out, "self_attn.o_proj.weight"},
    {Part::attn_out_bias, "self_attn.o_proj.bias"},
    {Part::ln2, "post_attention_layernorm.weight"},
    {Part::router, "mlp.gate.weight"},
    {Part::gate, "mlp.experts.{}.gate_proj.weight"},
    {Part::up, "mlp.experts.{}.up_proj.weight"},
    {Part::down, "mlp.experts.{}.down_proj.weight"},
    {Part::gate, "mlp.gate_proj.weight"},
    {Part::up, "mlp.up_proj.weight"},
    {Part::down, "mlp.down_proj.weight"},
};

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 4, .context = 32768});
  spec.qk_norm = QkNorm::shared;
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  // transformers reads no max_window_layers here: the window is every layer's.
  const bool slides = config.boolean("use_sliding_window", false);
  const std::int64_t window = config.integer("sliding_window", config.is_null("sliding_window") ? 0 : 4096);
  config.claim({"max_window_layers"});
  spec.windows = same_windows(config, spec, slides ? window : 0);

  const bool other_name = config.has("num_local_experts");  // what transformers 5 writes
  spec.n_experts = config.integer(other_name ? "num_local_experts" : "num_experts", 128);
  config.claim({"num_experts"});
  spec.experts_per_token = config.integer("num_experts_per_tok", 8);
  spec.d_expert = config.integer("moe_intermediate_size", 768);
  spec.renormalise_experts = config.boolean("norm_topk_prob", false);
  const std::int64_t step = std::max<std::int64_t>(1, config.integer("decoder_sparse_step", 1));
  std::vector<std::int64_t> dense;
  if (config.has("mlp_only_layers")) dense = config.integers("mlp_only_layers");
  config.claim({"mlp_only_layers"});
  for (std::int64_t l = 0; l < spec.n_layers && l < 10000; ++l)
    spec.dense_layers.push_back((l + 1) % step != 0 || std::ranges::find(dense, l) != dense.end());
  if (std::ranges::find(spec.dense_layers, true) == spec.dense_layers.end()) spec.dense_layers.clear();
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  spec.qk_norm = QkNorm::shared;
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  TensorNames names = llama_names();
  names.per_layer = kPerLayer;
  return names_of(format, names);
}

}  // namespace

const Family kQwen3Moe = {"qwen3_moe", "qwen3_moe", "qwen3moe", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
