// Gemma 1 (arXiv:2403.08295): Llama with a scaled embedding, 1 + w in its norms and GELU by tanh.
#include "models/families/common.h"

namespace sonde {
namespace {

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(
      config,
      {.kv_heads = 16, .head_dim = 256, .context = 8192, .activation = "gelu_pytorch_tanh", .tied = true});
  make_gemma(spec);
  // Files that say gelu mean its tanh form: the models were trained with it.
  if (config.has("hidden_activation"))
    spec.activation = activation_of(config.text("hidden_activation"), config, "hidden_activation");
  config.claim({"hidden_activation"});
  if (spec.activation == Activation::gelu) spec.activation = Activation::gelu_tanh;
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  config.expect("use_bidirectional_attention", false);
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_gemma(spec);
  spec.activation = Activation::gelu_tanh;
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  return gemma_names(format, llama_names().per_layer);
}

}  // namespace

const Family kGemma = {"gemma", "gemma", "gemma", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
