// OLMo 2 (arXiv:2501.00656): Llama with its norms after the sublayers, and one over all heads of q and of k.
#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kPerLayer[] = {
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
    {Part::gate, "mlp.gate_proj.weight"},
    {Part::up, "mlp.up_proj.weight"},
    {Part::down, "mlp.down_proj.weight"},
    {Part::ln2_post, "post_feedforward_layernorm.weight"},
};

void make_olmo2(ModelSpec& spec) {
  spec.pre_norms = false;
  spec.post_norms = true;
  spec.qk_norm = QkNorm::whole;
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.eps = 1e-5});
  make_olmo2(spec);
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_olmo2(spec);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  TensorNames names = llama_names();
  names.per_layer = kPerLayer;
  return names_of(format, names);
}

}  // namespace

const Family kOlmo2 = {"olmo2", "olmo2", "olmo2", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
