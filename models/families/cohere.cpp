// Command R (Cohere): LayerNorm without bias, attention and MLP side by side on one norm, RoPE on
// neighbouring values, scaled logits.
#include "models/families/common.h"

namespace sonde {
namespace {

void make_cohere(ModelSpec& spec, bool qk_norm) {
  spec.norm = NormKind::layer;
  spec.order = BlockOrder::parallel;
  spec.shared_norm = true;
  spec.rope.pairs = RopePairs::neighbours;
  if (qk_norm) spec.qk_norm = QkNorm::per_head;
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(
      config,
      {.context = 8192, .eps_key = "layer_norm_eps", .eps = 1e-5, .tied = true, .rope = {.theta = 500000}});
  make_cohere(spec, config.boolean("use_qk_norm", false));
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  spec.logit_scale = config.real("logit_scale", 0.0625);
  config.claim({"model_max_length"});  // the tokenizer's
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_cohere(spec, files.find("blk.0.attn_q_norm.weight") != nullptr);
  spec.logit_scale = metadata.real("logit_scale", 1);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) { return names_of(format, llama_names()); }

}  // namespace

const Family kCohere = {"cohere", "cohere", "command-r", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
