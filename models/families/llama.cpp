// Llama 1 to 3.3 and models of the same shape (SmolLM2, TinyLlama, Vicuna, ...): the defaults of ModelSpec.
#include "models/families/rope_config.h"
#include "models/family.h"
#include "runtime/error.h"

namespace sonde {
namespace {

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec;
  spec.n_layers = config.integer("num_hidden_layers");
  spec.d_model = config.integer("hidden_size");
  spec.n_heads = config.integer("num_attention_heads");
  spec.n_kv_heads = config.integer("num_key_value_heads", spec.n_heads);
  spec.d_head = config.integer("head_dim", spec.n_heads > 0 ? spec.d_model / spec.n_heads : 0);
  spec.d_mlp = config.integer("intermediate_size");
  spec.vocab = config.integer("vocab_size");
  spec.context = config.integer("max_position_embeddings", 2048);
  spec.norm_eps = config.real("rms_norm_eps", 1e-6);
  spec.rope = rope_from_config(config, spec.context);
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  spec.mlp_bias = config.boolean("mlp_bias", false);
  spec.tied_head = config.boolean("tie_word_embeddings", false);
  const std::string activation = config.text("hidden_act", "silu");
  if (activation != "silu")
    fail("{}: key hidden_act: found '{}', expected silu", config.source(), activation);
  if (config.boolean("rope_interleaved", false))
    fail("{}: key rope_interleaved: found true, expected false", config.source());
  config.claim("is_llama_config");  // SmolLM2's files; nothing reads it
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec;
  spec.n_layers = metadata.integer("block_count");
  spec.d_model = metadata.integer("embedding_length");
  spec.n_heads = metadata.integer("attention.head_count");
  spec.n_kv_heads = metadata.integer("attention.head_count_kv", spec.n_heads);
  spec.d_head = metadata.integer("attention.key_length", spec.n_heads > 0 ? spec.d_model / spec.n_heads : 0);
  spec.d_mlp = metadata.integer("feed_forward_length");
  spec.context = metadata.integer("context_length");
  spec.norm_eps = metadata.real("attention.layer_norm_rms_epsilon");
  spec.rope = rope_from_gguf(metadata, files, spec.context);

  const FileTensor* embed = files.find("token_embd.weight");
  if (embed == nullptr)
    fail_hint("a vocabulary-only file serves `sonde tokenize` alone",
              "{}: tensor token_embd.weight is missing", metadata.source());
  spec.vocab = embed->view.dim(0);
  spec.tied_head = files.find("output.weight") == nullptr;
  spec.qkv_bias = files.find("blk.0.attn_q.bias") != nullptr;
  spec.attn_out_bias = files.find("blk.0.attn_output.bias") != nullptr;
  spec.mlp_bias = files.find("blk.0.ffn_gate.bias") != nullptr;

  const auto expect = [&](const char* key, std::int64_t expected) {
    const std::int64_t found = metadata.integer(key, expected);
    if (found != expected)
      fail("{}: key llama.{}: found {}, expected {}", metadata.source(), key, found, expected);
  };
  expect("attention.value_length", spec.d_head);
  expect("rope.dimension_count", spec.d_head);
  expect("expert_count", 0);
  expect("expert_used_count", 0);
  return spec;
}

}  // namespace

const Family kLlama = {"llama", "llama", "llama", spec_from_config, spec_from_gguf, llama_tensors};

}  // namespace sonde
