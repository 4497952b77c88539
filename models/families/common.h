// What the configs of most families have in common, for their files to start from.
#pragma once

#include <functional>
#include <string>

#include "models/families/rope_config.h"
#include "models/family.h"

namespace sonde {

// What a family's config means where it says nothing.
struct ConfigDefaults {
  std::int64_t kv_heads = 0;  // 0: as many as heads
  std::int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  std::int64_t context = 2048;
  const char* eps_key = "rms_norm_eps";
  double eps = 1e-6;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  bool tied = false;
  RopeDefaults rope = {};
  bool reads_rope = true;  // false: the family does
};

// Llama's keys: sizes, norm, activation, RoPE, tied head.
ModelSpec spec_of_config(ConfigReader& config, const ConfigDefaults& defaults = {});
// llama.cpp's, the same for every architecture; biases and a tied head show in the tensors.
ModelSpec spec_of_gguf(GgufReader& metadata, const ModelFiles& files);

// transformers' name of an activation; `key` is for the message.
Activation activation_of(const std::string& name, const ConfigReader& config, const char* key);

// A window per layer: layer_types where the config has it, else as `slides` says; empty if none slides.
std::vector<std::int64_t> windows_of_config(ConfigReader& config, const ModelSpec& spec, std::int64_t window,
                                            const std::function<bool(std::int64_t layer)>& slides);
// The same window on every layer, which layer_types may only repeat.
std::vector<std::int64_t> same_windows(ConfigReader& config, const ModelSpec& spec, std::int64_t window);
// Qwen's keys: sliding_window counts where use_sliding_window is true, from layer max_window_layers on.
std::vector<std::int64_t> qwen_windows(ConfigReader& config, const ModelSpec& spec);

// Gemma's activation, head and norms: a file at Hugging Face stores every norm's weight less 1.
void make_gemma(ModelSpec& spec);
TensorNames gemma_names(ModelFormat format, std::span<const PartName> per_layer);

inline TensorNames names_of(ModelFormat format, TensorNames hugging_face) {
  return format == ModelFormat::gguf ? gguf_names() : hugging_face;
}

}  // namespace sonde
