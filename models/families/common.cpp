#include "models/families/common.h"

#include <array>
#include <cmath>
#include <utility>

#include "runtime/error.h"

namespace sonde {

Activation activation_of(const std::string& name, const ConfigReader& config, const char* key) {
  constexpr std::array<std::pair<std::string_view, Activation>, 9> kNames{
      {{"silu", Activation::silu},
       {"swish", Activation::silu},
       {"gelu", Activation::gelu},
       {"gelu_python", Activation::gelu},
       {"gelu_new", Activation::gelu_tanh},
       {"gelu_pytorch_tanh", Activation::gelu_tanh},
       {"gelu_fast", Activation::gelu_tanh},
       {"relu", Activation::relu},
       {"relu2", Activation::relu_squared}}};
  for (const auto& [known, activation] : kNames)
    if (known == name) return activation;
  fail("{}: key {}: found '{}', expected silu, gelu, gelu_new, gelu_pytorch_tanh, relu or relu2",
       config.source(), key, name);
}

ModelSpec spec_of_config(ConfigReader& config, const ConfigDefaults& defaults) {
  ModelSpec spec;
  spec.n_layers = config.integer("num_hidden_layers");
  spec.d_model = config.integer("hidden_size");
  spec.n_heads = config.integer("num_attention_heads");
  const bool null_kv = config.is_null("num_key_value_heads");
  spec.n_kv_heads = config.integer("num_key_value_heads",
                                   defaults.kv_heads > 0 && !null_kv ? defaults.kv_heads : spec.n_heads);
  const bool derived = defaults.head_dim == 0 || config.is_null("head_dim");
  spec.d_head = config.integer("head_dim", !derived           ? defaults.head_dim
                                           : spec.n_heads > 0 ? spec.d_model / spec.n_heads
                                                              : 0);
  spec.d_mlp = config.integer("intermediate_size");
  spec.vocab = config.integer("vocab_size");
  spec.context = config.integer("max_position_embeddings", defaults.context);
  spec.norm_eps = config.real(defaults.eps_key, defaults.eps);
  spec.activation = activation_of(config.text(defaults.activation_key, defaults.activation), config,
                                  defaults.activation_key);
  spec.tied_head = config.boolean("tie_word_embeddings", defaults.tied);
  if (defaults.reads_rope) {
    spec.rope = rope_from_config(config, spec, defaults.rope);
    // The rule that stretches as texts get longer: the config holds the context before that.
    if (spec.rope.scaling == RopeScaling::dynamic && spec.rope.factor > 1 && spec.rope.factor < 1000)
      spec.context =
          static_cast<std::int64_t>(std::min(static_cast<double>(spec.context) * spec.rope.factor, 2e9));
  }
  return spec;
}

ModelSpec spec_of_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec;
  spec.n_layers = metadata.integer("block_count");
  spec.d_model = metadata.integer("embedding_length");
  spec.n_heads = metadata.integer("attention.head_count");
  spec.n_kv_heads = metadata.integer("attention.head_count_kv", spec.n_heads);
  spec.d_head = metadata.integer("attention.key_length", spec.n_heads > 0 ? spec.d_model / spec.n_heads : 0);
  metadata.expect("attention.value_length", spec.d_head);
  spec.d_mlp = metadata.integer("feed_forward_length", 0);
  spec.context = metadata.integer("context_length");
  spec.norm_eps = metadata.has("attention.layer_norm_epsilon")
                      ? metadata.real("attention.layer_norm_epsilon")
                      : metadata.real("attention.layer_norm_rms_epsilon");
  metadata.claim("attention.layer_norm_rms_epsilon");
  spec.rope = rope_from_gguf(metadata, files, spec);

  const FileTensor* embed = files.find("token_embd.weight");
  if (embed == nullptr)
    fail_hint("a vocabulary-only file serves `sonde tokenize` alone",
              "{}: tensor token_embd.weight is missing", metadata.source());
  spec.vocab = embed->view.dim(0);
  const auto has = [&](const char* name) { return files.find(name) != nullptr; };
  spec.tied_head = !has("output.weight");
  spec.norm_bias = has("output_norm.bias");
  spec.qkv_bias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
  spec.attn_out_bias = has("blk.0.attn_output.bias");
  spec.mlp_bias = has("blk.0.ffn_down.bias");

  spec.n_experts = metadata.integer("expert_count", 0);
  spec.experts_per_token = metadata.integer("expert_used_count", 0);
  if (spec.n_experts > 0) spec.d_expert = metadata.integer("expert_feed_forward_length", spec.d_mlp);
  if (spec.d_mlp == 0) spec.d_mlp = spec.d_expert;
  return spec;
}

std::vector<std::int64_t> windows_of_config(ConfigReader& config, const ModelSpec& spec, std::int64_t window,
                                            const std::function<bool(std::int64_t)>& slides) {
  std::vector<std::int64_t> windows;
  if (config.has("layer_types")) {
    for (const std::string& type : config.texts("layer_types")) {
      if (type != "sliding_attention" && type != "full_attention")
        fail("{}: key layer_types: found '{}', expected full_attention or sliding_attention", config.source(),
             type);
      windows.push_back(type == "sliding_attention" ? window : 0);
    }
  } else {
    config.claim({"layer_types"});
    for (std::int64_t l = 0; l < spec.n_layers && l < 10000; ++l) windows.push_back(slides(l) ? window : 0);
  }
  for (const std::int64_t w : windows)
    if (w > 0) return windows;
  if (static_cast<std::int64_t>(windows.size()) != spec.n_layers)
    return windows;  // the spec's check refuses it
  return {};
}

std::vector<std::int64_t> same_windows(ConfigReader& config, const ModelSpec& spec, std::int64_t window) {
  const std::string_view expected = window > 0 ? "sliding_attention" : "full_attention";
  if (config.has("layer_types"))
    for (const std::string& type : config.texts("layer_types"))
      if (type != expected)
        fail("{}: key layer_types: found '{}', expected '{}': this family's layers are all of one kind",
             config.source(), type, expected);
  return windows_of_config(config, spec, window, [](std::int64_t) { return true; });
}

std::vector<std::int64_t> qwen_windows(ConfigReader& config, const ModelSpec& spec) {
  const bool slides = config.boolean("use_sliding_window", false);
  const std::int64_t given = config.integer("sliding_window", config.is_null("sliding_window") ? 0 : 4096);
  const std::int64_t first = config.integer("max_window_layers", 28);
  return windows_of_config(config, spec, slides ? given : 0,
                           [&](std::int64_t l) { return slides && l >= first; });
}

void make_gemma(ModelSpec& spec) { spec.embed_scale = std::sqrt(static_cast<double>(spec.d_model)); }

TensorNames gemma_names(ModelFormat format, std::span<const PartName> per_layer) {
  if (format == ModelFormat::gguf) return gguf_names();  // holds 1 + w
  TensorNames names = llama_names();
  names.per_layer = per_layer;
  names.norm_plus = 1;
  return names;
}

}  // namespace sonde
