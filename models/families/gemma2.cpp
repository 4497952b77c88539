// Gemma 2 (arXiv:2408.00118): Gemma with norms on both sides of each sublayer, soft-caps on scores and
// logits, and a sliding window on every other layer.
#include "models/families/common.h"

namespace sonde {

constexpr PartName kGemma2PerLayer[] = {
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
    {Part::ln1_post, "post_attention_layernorm.weight"},
    {Part::ln2, "pre_feedforward_layernorm.weight"},
    {Part::gate, "mlp.gate_proj.weight"},
    {Part::up, "mlp.up_proj.weight"},
    {Part::down, "mlp.down_proj.weight"},
    {Part::ln2_post, "post_feedforward_layernorm.weight"},
};

TensorNames gemma2_names(ModelFormat format, const ModelSpec&) {
  return gemma_names(format, kGemma2PerLayer);
}

ModelSpec gemma2_config(ConfigReader& config, bool reads_rope) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 4,
                                           .head_dim = 256,
                                           .context = 8192,
                                           .activation_key = "hidden_activation",
                                           .activation = "gelu_pytorch_tanh",
                                           .tied = true,
                                           .reads_rope = reads_rope});
  make_gemma(spec);
  spec.post_norms = true;
  config.claim(
      {"hidden_act", "sliding_window_size"});  // hidden_activation and sliding_window are what counts
  spec.attn_scale = 1 / std::sqrt(config.real("query_pre_attn_scalar", 256));
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  config.expect("use_bidirectional_attention", false);
  return spec;
}

namespace {

double softcap(ConfigReader& config, const char* key, double otherwise) {
  return config.real(key, config.is_null(key) ? 0 : otherwise);
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = gemma2_config(config, true);
  spec.attn_softcap = softcap(config, "attn_logit_softcapping", 50);
  spec.logit_softcap = softcap(config, "final_logit_softcapping", 30);
  const std::int64_t window = config.integer("sliding_window", config.is_null("sliding_window") ? 0 : 4096);
  spec.windows = windows_of_config(config, spec, window, [](std::int64_t l) { return l % 2 == 0; });
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_gemma(spec);
  spec.post_norms = true;
  spec.activation = Activation::gelu_tanh;
  // The file does not hold query_pre_attn_scalar: the model of 46 layers scales by D / H, the others by E.
  if (spec.n_layers == 46)
    spec.attn_scale = 1 / std::sqrt(static_cast<double>(spec.d_model) / static_cast<double>(spec.n_heads));
  spec.attn_softcap = metadata.real("attn_logit_softcapping", 50);
  spec.logit_softcap = metadata.real("final_logit_softcapping", 30);
  const std::int64_t window = metadata.integer("attention.sliding_window", 4096);
  for (std::int64_t l = 0; l < spec.n_layers && l < 10000; ++l)
    spec.windows.push_back(l % 2 == 0 ? window : 0);
  return spec;
}

}  // namespace

const Family kGemma2 = {"gemma2", "gemma2", "gemma2", spec_from_config, spec_from_gguf, gemma2_names};

}  // namespace sonde
