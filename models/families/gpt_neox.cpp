// GPT-NeoX and Pythia (arXiv:2204.06745): LayerNorm, attention and MLP side by side, a part of each head
// rotated.
#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kOnce[] = {
    {Part::embed, "gpt_neox.embed_in.weight"},
    {Part::ln_final, "gpt_neox.final_layer_norm.weight"},
    {Part::ln_final_bias, "gpt_neox.final_layer_norm.bias"},
    {Part::head, "embed_out.weight"},
};
constexpr PartName kPerLayer[] = {
    {Part::ln1, "input_layernorm.weight"},           {Part::ln1_bias, "input_layernorm.bias"},
    {Part::qkv, "attention.query_key_value.weight"}, {Part::qkv_bias, "attention.query_key_value.bias"},
    {Part::attn_out, "attention.dense.weight"},      {Part::attn_out_bias, "attention.dense.bias"},
    {Part::ln2, "post_attention_layernorm.weight"},  {Part::ln2_bias, "post_attention_layernorm.bias"},
    {Part::up, "mlp.dense_h_to_4h.weight"},          {Part::up_bias, "mlp.dense_h_to_4h.bias"},
    {Part::down, "mlp.dense_4h_to_h.weight"},        {Part::down_bias, "mlp.dense_4h_to_h.bias"},
};

void make_neox(ModelSpec& spec, bool parallel) {
  spec.norm = NormKind::layer;
  spec.norm_bias = spec.mlp_bias = true;
  spec.gated_mlp = false;
  spec.order = parallel ? BlockOrder::parallel : BlockOrder::sequential;
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ConfigDefaults defaults{.eps_key = "layer_norm_eps", .eps = 1e-5, .activation = "gelu"};
  defaults.rope.theta = config.real("rotary_emb_base", 10000);
  defaults.rope.fraction = config.real("rotary_pct", 0.25);
  ModelSpec spec = spec_of_config(config, defaults);
  make_neox(spec, config.boolean("use_parallel_residual", true));
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", true);
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_neox(spec, metadata.boolean("use_parallel_residual", true));
  spec.activation = Activation::gelu;
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  if (format == ModelFormat::gguf) return gguf_names_with_qkv();  // rows are q, k, v of all heads there
  TensorNames names{"gpt_neox.layers.{}.", kOnce, kPerLayer};
  names.qkv_order = RowOrder::qkv_per_head;
  return names;
}

}  // namespace

const Family kGptNeox = {"gpt_neox", "gpt_neox", "gptneox", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
