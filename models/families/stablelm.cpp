// StableLM 2 (arXiv:2402.17834): Llama with LayerNorm, a quarter of each head rotated, and in the 12B model a
// norm per head of q and k and attention and MLP side by side.
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
    {Part::q_norm, "self_attn.q_layernorm.norms.{}.weight"},
    {Part::k_norm, "self_attn.k_layernorm.norms.{}.weight"},
    {Part::attn_out, "self_attn.o_proj.weight"},
    {Part::ln2, "post_attention_layernorm.weight"},
    {Part::ln2_bias, "post_attention_layernorm.bias"},
    {Part::gate, "mlp.gate_proj.weight"},
    {Part::up, "mlp.up_proj.weight"},
    {Part::down, "mlp.down_proj.weight"},
};

void make_stablelm(ModelSpec& spec, bool qk_norm, bool parallel) {
  spec.norm = NormKind::layer;
  spec.norm_bias = true;
  if (qk_norm) spec.qk_norm = QkNorm::per_head;
  if (parallel) spec.order = BlockOrder::parallel, spec.shared_norm = true;
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 32,
                                           .context = 4096,
                                           .eps_key = "layer_norm_eps",
                                           .eps = 1e-5,
                                           .rope = {.fraction = 0.25}});
  make_stablelm(spec, config.boolean("qk_layernorm", false), config.boolean("use_parallel_residual", false));
  spec.qkv_bias = config.boolean("use_qkv_bias", false);
  config.expect("rotary_scaling_factor", 1.0);
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  metadata.claim("use_parallel_residual");  // the tensors tell
  make_stablelm(spec, files.find("blk.0.attn_q_norm.weight") != nullptr,
                files.find("blk.0.ffn_norm.weight") == nullptr);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  TensorNames names = llama_names();
  names.per_layer = kPerLayer;
  return names_of(format, names);
}

}  // namespace

const Family kStablelm = {"stablelm", "stablelm", "stablelm", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
