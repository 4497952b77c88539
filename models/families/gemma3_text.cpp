// Gemma 3's text models (arXiv:2503.19786): Gemma 2 with qk-norm for the soft-caps, five layers with a window
// and their own RoPE base to each one without.
#include "models/families/common.h"

namespace sonde {

ModelSpec gemma2_config(ConfigReader& config, bool reads_rope);  // gemma2.cpp
TensorNames gemma2_names(ModelFormat format, const ModelSpec& spec);

namespace {

constexpr double kGlobalTheta = 1e6, kLocalTheta = 1e4;

// transformers 5 keeps one rope object for each kind of layer, older files flat keys.
void read_ropes(ConfigReader& config, ModelSpec& spec) {
  spec.local_rope = RopeSpec{};
  spec.local_rope->theta = config.real("rope_local_base_freq", kLocalTheta);
  if (!config.has("rope_parameters")) {
    spec.rope = rope_from_config(config, spec, {.theta = kGlobalTheta});
    return;
  }
  ConfigReader ropes = config.object("rope_parameters");
  config.claim({"rope_theta", "rope_scaling"});
  const auto read = [&](const char* kind, double theta) {
    RopeSpec rope;
    rope.theta = theta;
    if (!ropes.has(kind)) return rope;
    ConfigReader object = ropes.object(kind);
    rope = rope_from_object(object, spec, {.theta = theta});
    object.finish();
    return rope;
  };
  spec.rope = read("full_attention", kGlobalTheta);
  spec.local_rope = read("sliding_attention", spec.local_rope->theta);
  ropes.finish();
}

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = gemma2_config(config, false);
  spec.qk_norm = QkNorm::shared;
  read_ropes(config, spec);
  config.claim({"attn_logit_softcapping"});  // in some files; the attention of this family has none
  spec.logit_softcap = config.real("final_logit_softcapping", 0);
  std::int64_t pattern = config.integer("_sliding_window_pattern", 6);
  pattern = std::max<std::int64_t>(1, config.integer("sliding_window_pattern", pattern));
  const std::int64_t window = config.integer("sliding_window", config.is_null("sliding_window") ? 0 : 4096);
  spec.windows =
      windows_of_config(config, spec, window, [&](std::int64_t l) { return (l + 1) % pattern != 0; });
  return spec;
}

// What the metadata leaves out is as llama.cpp has it: window pattern 6, local base 10000.
ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  make_gemma(spec);
  spec.post_norms = true;
  spec.qk_norm = QkNorm::shared;
  spec.activation = Activation::gelu_tanh;
  if (!metadata.has("rope.freq_base")) spec.rope.theta = kGlobalTheta;
  spec.local_rope = RopeSpec{};
  spec.local_rope->theta = metadata.real("rope.freq_base_swa", kLocalTheta);
  if (spec.n_layers == 62)  // the 27B model scales by D / H, the others by E
    spec.attn_scale = 1 / std::sqrt(static_cast<double>(spec.d_model) / static_cast<double>(spec.n_heads));
  spec.logit_softcap = metadata.real("final_logit_softcapping", 0);
  const std::int64_t window = metadata.integer("attention.sliding_window", 0);
  const std::int64_t pattern =
      std::max<std::int64_t>(1, metadata.integer("attention.sliding_window_pattern", 6));
  for (std::int64_t l = 0; l < spec.n_layers && l < 10000; ++l)
    spec.windows.push_back((l + 1) % pattern != 0 ? window : 0);
  return spec;
}

}  // namespace

const Family kGemma3Text = {"gemma3_text",    "gemma3_text",  "gemma3",
                            spec_from_config, spec_from_gguf, gemma2_names};

}  // namespace sonde
