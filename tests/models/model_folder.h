// Hugging Face folders made on the spot: a config, tensors by name, and every way to spoil them.
#pragma once

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "io/json.h"
#include "runtime/dtype.h"

namespace sonde::test {

// A folder under the system's temporary directory that goes away with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sonde-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct StoredTensor {
  std::string dtype = "F32";
  std::vector<std::int64_t> shape;
  std::string bytes;
};
using StoredTensors = std::map<std::string, StoredTensor>;

inline StoredTensor stored_f32(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return {"F32", std::move(shape),
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4)};
}

inline void write_safetensors(const std::filesystem::path& path, const StoredTensors& tensors) {
  Json header = Json::object();
  std::size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t size = text.size();
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&size), 8);
  out << text;
  for (const auto& [name, tensor] : tensors) out << tensor.bytes;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline void write_model(const std::filesystem::path& folder, const Json& config,
                        const StoredTensors& tensors) {
  write_text(folder / "config.json", config.dump(2));
  write_safetensors(folder / "model.safetensors", tensors);
}

// Sizes and switches of a llama made on the spot.
struct TinyLlama {
  int layers = 2, width = 24, heads = 4, kv_heads = 2, head_width = 6, mlp_width = 40, vocab = 61;
  double eps = 1e-5, theta = 10000;
  int context = 512;
  bool attention_bias = false, mlp_bias = false, tied = false;
  Json rope = nullptr;  // the scaling rule's keys: {"rope_type": "linear", "factor": 4}
};

// As transformers 5 writes it, or with the keys of files until 2025.
inline Json config_of(const TinyLlama& m, bool classic = false) {
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"attention_bias", m.attention_bias},
                 {"mlp_bias", m.mlp_bias},
                 {"tie_word_embeddings", m.tied},
                 {"hidden_act", "silu"},
                 {"head_dim", m.head_width},
                 {"hidden_size", m.width},
                 {"intermediate_size", m.mlp_width},
                 {"max_position_embeddings", m.context},
                 {"num_attention_heads", m.heads},
                 {"num_key_value_heads", m.kv_heads},
                 {"num_hidden_layers", m.layers},
                 {"rms_norm_eps", m.eps},
                 {"vocab_size", m.vocab}};
  if (classic) {
    config["rope_theta"] = m.theta;
    config["rope_scaling"] = m.rope;
    if (m.rope.is_object() && (m.rope["rope_type"] == "linear" || m.rope["rope_type"] == "dynamic"))
      config["rope_scaling"] = {{"type", m.rope["rope_type"]}, {"factor", m.rope["factor"]}};  // the oldest
    config["torch_dtype"] = "float32";
  } else {
    config["rope_parameters"] = m.rope.is_object() ? m.rope : Json{{"rope_type", "default"}};
    config["rope_parameters"]["rope_theta"] = m.theta;
    config["dtype"] = "float32";
  }
  return config;
}

// Weights under Hugging Face's names: no norm weight is 1, no bias is 0.
inline std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<float>>> random_weights(
    const TinyLlama& m, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<float>>> tensors;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape, float mean, float scale) {
    std::size_t count = 1;
    for (std::int64_t n : shape) count *= static_cast<std::size_t>(n);
    std::vector<float> values(count);
    for (float& x : values) x = mean + scale * normal(generator);
    tensors[name] = {std::move(shape), std::move(values)};
  };
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in, bool bias, float gain) {
    add(name + ".weight", {out, in}, 0, gain / std::sqrt(static_cast<float>(in)));
    if (bias) add(name + ".bias", {out}, 0, 0.3f);
  };
  const std::int64_t q = m.heads * m.head_width, kv = m.kv_heads * m.head_width;
  add("model.embed_tokens.weight", {m.vocab, m.width}, 0, 1);
  for (int l = 0; l < m.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    add(layer + "input_layernorm.weight", {m.width}, 1, 0.3f);
    linear(layer + "self_attn.q_proj", q, m.width, m.attention_bias, 1.3f);
    linear(layer + "self_attn.k_proj", kv, m.width, m.attention_bias, 1.3f);
    linear(layer + "self_attn.v_proj", kv, m.width, m.attention_bias, 1);
    linear(layer + "self_attn.o_proj", m.width, q, m.attention_bias, 1);
    add(layer + "post_attention_layernorm.weight", {m.width}, 1, 0.3f);
    linear(layer + "mlp.gate_proj", m.mlp_width, m.width, m.mlp_bias, 1.2f);
    linear(layer + "mlp.up_proj", m.mlp_width, m.width, m.mlp_bias, 1.2f);
    linear(layer + "mlp.down_proj", m.width, m.mlp_width, m.mlp_bias, 1);
  }
  add("model.norm.weight", {m.width}, 1, 0.3f);
  if (!m.tied) linear("lm_head", m.vocab, m.width, false, 1);
  return tensors;
}

inline StoredTensors stored_weights(const TinyLlama& m, unsigned seed) {
  StoredTensors tensors;
  for (const auto& [name, tensor] : random_weights(m, seed))
    tensors[name] = stored_f32(tensor.first, tensor.second);
  return tensors;
}

}  // namespace sonde::test
