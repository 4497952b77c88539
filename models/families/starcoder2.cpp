// StarCoder 2 (arXiv:2402.19173): LayerNorm, biases, a plain GELU MLP, RoPE, a sliding window in some models.
#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kPerLayer[] = {
    {Part::ln1, "input_layernorm.weight"},
    {Part::ln1_bias, "input_layernorm.bias"},
    {Part::q, "self_attn.q_proj.weight"},
    {Part::q_bias, "self_attn.q_proj.bias"},
    {Part::k, "self_attn.k_proj.weight"},
    {Part::k_bias, "self_attn.k_proj.bias"},
    {Part::v, "self_attn.v_proj.weight"},
    {Part::v_bias, "self_attn.v_proj.bias"},
    {Part::attn_out, "self_attn.o_proj.weight"},
    {Part::attn_out_bias, "self_attn.o_proj.bias"},
    {Part::ln2, "post_attention_layernorm.weight"},
    {Part::ln2_bias, "post_attention_layernorm.bias"},
    {Part::up, "mlp.c_fc.weight"},
    {Part::up_bias, "mlp.c_fc.bias"},
    {Part::down, "mlp.c_proj.weight"},
    {Part::down_bias, "mlp.c_proj.bias"},
};

void make_starcoder2(ModelSpec& spec) {
  spec.norm = NormKind::layer;
  spec.norm_bias = true;
  spec.gated_mlp = false;
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 2,
                                           .context = 4096,
                                           .eps_key = "norm_epsilon",
                                           .eps = 1e-5,
                                           .activation = "gelu_pytorch_tanh",
                                           .tied = true});
  make_starcoder2(spec);
  spec.qkv_bias = spec.attn_out_bias = spec.mlp_bias = config.boolean("use_bias", true);
  const std::int64_t window = config.integer("sliding_window", 0);
  spec.windows = same_windows(config, spec, window);
  config.expect("mlp_type", "default");
  config.expect("norm_type", "layer_norm");
  config.expect("scale_attn_weights", true);
  config.claim({"activation_function", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32",
                "layer_norm_epsilon"});  // norm_epsilon is what counts
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_starcoder2(spec);
  spec.activation = Activation::gelu_tanh;
  const std::int64_t window = metadata.integer("attention.sliding_window", 0);
  if (window > 0 && spec.n_layers > 0 && spec.n_layers <= 10000)
    spec.windows.assign(static_cast<std::size_t>(spec.n_layers), window);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  TensorNames names = llama_names();
  names.per_layer = kPerLayer;
  return names_of(format, names);
}

}  // namespace

const Family kStarcoder2 = {"starcoder2",     "starcoder2",   "starcoder2",
                            spec_from_config, spec_from_gguf, names};

}  // namespace sonde
