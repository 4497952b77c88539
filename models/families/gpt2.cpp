// GPT-2: LayerNorm, learned positions, a plain GELU MLP, biases everywhere, weights stored [in, out].
#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kOnce[] = {
    {Part::embed, "transformer.wte.weight"},
    {Part::positions, "transformer.wpe.weight"},
    {Part::ln_final, "transformer.ln_f.weight"},
    {Part::ln_final_bias, "transformer.ln_f.bias"},
    {Part::head, "lm_head.weight"},
};
constexpr PartName kPerLayer[] = {
    {Part::ln1, "ln_1.weight"},
    {Part::ln1_bias, "ln_1.bias"},
    {Part::qkv, "attn.c_attn.weight"},
    {Part::qkv_bias, "attn.c_attn.bias"},
    {Part::attn_out, "attn.c_proj.weight"},
    {Part::attn_out_bias, "attn.c_proj.bias"},
    {Part::ln2, "ln_2.weight"},
    {Part::ln2_bias, "ln_2.bias"},
    {Part::up, "mlp.c_fc.weight"},
    {Part::up_bias, "mlp.c_fc.bias"},
    {Part::down, "mlp.c_proj.weight"},
    {Part::down_bias, "mlp.c_proj.bias"},
};

void make_gpt2(ModelSpec& spec) {
  spec.norm = NormKind::layer;
  spec.norm_bias = spec.qkv_bias = spec.attn_out_bias = spec.mlp_bias = true;
  spec.learned_positions = true;
  spec.gated_mlp = false;
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec;
  make_gpt2(spec);
  spec.n_layers = config.integer("n_layer");
  spec.d_model = config.integer("n_embd");
  spec.n_heads = spec.n_kv_heads = config.integer("n_head");
  spec.d_head = spec.n_heads > 0 ? spec.d_model / spec.n_heads : 0;
  spec.d_mlp = config.integer("n_inner", 4 * spec.d_model);
  spec.vocab = config.integer("vocab_size");
  spec.context = config.integer("n_positions", 1024);
  spec.norm_eps = config.real("layer_norm_epsilon", 1e-5);
  spec.activation =
      activation_of(config.text("activation_function", "gelu_new"), config, "activation_function");
  spec.tied_head = config.boolean("tie_word_embeddings", true);
  if (!config.boolean("scale_attn_weights", true)) spec.attn_scale = 1;
  spec.attn_scale_over_depth = config.boolean("scale_attn_by_inverse_layer_idx", false);
  config.claim({"reorder_and_upcast_attn"});  // the same product in another order
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_gpt2(spec);
  spec.activation = Activation::gelu_tanh;
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  if (format == ModelFormat::gguf) return gguf_names_with_qkv();
  TensorNames names{"transformer.h.{}.", kOnce, kPerLayer};
  names.conv1d = true;
  return names;
}

}  // namespace

const Family kGpt2 = {"gpt2", "gpt2", "gpt2", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
