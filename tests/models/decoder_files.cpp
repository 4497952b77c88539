// A random decoder as files: the names, orders and fusions of each family.
#include "tests/models/random_decoder.h"

namespace sonde::test {
namespace {

bool is(const std::string& family, std::initializer_list<const char*> list) {
  for (const char* one : list)
    if (family == one) return true;
  return false;
}

}  // namespace

oracle::Weights RandomDecoder::oracle_weights() const {
  oracle::Weights result;
  for (const auto& [name, value] : w) result[name] = {value.values.begin(), value.values.end()};
  return result;
}

namespace {

Values below(std::initializer_list<const Values*> pieces) {
  Values all{(*pieces.begin())->shape, {}};
  all.shape[0] = 0;
  for (const Values* piece : pieces) {
    all.shape[0] += piece->shape[0];
    all.values.insert(all.values.end(), piece->values.begin(), piece->values.end());
  }
  return all;
}

// Row r of the result is row from(r).
template <class From>
Values reorder(const Values& v, const From& from) {
  Values result = v;
  const auto rows = static_cast<std::size_t>(v.shape[0]), width = v.values.size() / rows;
  for (std::size_t r = 0; r < rows; ++r)
    std::copy_n(v.values.begin() + static_cast<std::ptrdiff_t>(from(r) * width), width,
                result.values.begin() + static_cast<std::ptrdiff_t>(r * width));
  return result;
}

Values transpose(const Values& v) {
  if (v.shape.size() == 1) return v;
  Values result{{v.shape[1], v.shape[0]}, v.values};
  const auto rows = static_cast<std::size_t>(v.shape[0]), width = static_cast<std::size_t>(v.shape[1]);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < width; ++c) result.values[c * rows + r] = v.values[r * width + c];
  return result;
}

std::map<std::string, std::string> hugging_face_names(const std::string& family) {
  std::map<std::string, std::string> names = {{"embed", "model.embed_tokens"},
                                              {"ln_final", "model.norm"},
                                              {"head", "lm_head"},
                                              {"ln1", "input_layernorm"},
                                              {"q", "self_attn.q_proj"},
                                              {"k", "self_attn.k_proj"},
                                              {"v", "self_attn.v_proj"},
                                              {"o", "self_attn.o_proj"},
                                              {"q_norm", "self_attn.q_norm"},
                                              {"k_norm", "self_attn.k_norm"},
                                              {"ln2", "post_attention_layernorm"},
                                              {"gate", "mlp.gate_proj"},
                                              {"up", "mlp.up_proj"},
                                              {"down", "mlp.down_proj"}};
  const auto set = [&](std::map<std::string, std::string> other) {
    for (auto& [part, name] : other) names[part] = name;
  };
  if (is(family, {"gemma2", "gemma3_text", "olmo2"}))
    set({{"ln1_post", "post_attention_layernorm"},
         {"ln2", "pre_feedforward_layernorm"},
         {"ln2_post", "post_feedforward_layernorm"}});
  if (family == "starcoder2") set({{"up", "mlp.c_fc"}, {"down", "mlp.c_proj"}});
  if (family == "phi3") set({{"qkv", "self_attn.qkv_proj"}, {"gate_up", "mlp.gate_up_proj"}});
  if (family == "stablelm")
    set({{"q_norm", "self_attn.q_layernorm.norms"}, {"k_norm", "self_attn.k_layernorm.norms"}});
  if (family == "mixtral")
    set({{"router", "block_sparse_moe.gate"},
         {"gate.", "block_sparse_moe.experts.{}.w1"},
         {"up.", "block_sparse_moe.experts.{}.w3"},
         {"down.", "block_sparse_moe.experts.{}.w2"}});
  if (family == "qwen3_moe")
    set({{"router", "mlp.gate"},
         {"gate.", "mlp.experts.{}.gate_proj"},
         {"up.", "mlp.experts.{}.up_proj"},
         {"down.", "mlp.experts.{}.down_proj"}});
  if (family == "gpt2")
    set({{"embed", "transformer.wte"},
         {"positions", "transformer.wpe"},
         {"ln_final", "transformer.ln_f"},
         {"ln1", "ln_1"},
         {"ln2", "ln_2"},
         {"qkv", "attn.c_attn"},
         {"o", "attn.c_proj"},
         {"up", "mlp.c_fc"},
         {"down", "mlp.c_proj"}});
  if (family == "gpt_neox")
    set({{"embed", "gpt_neox.embed_in"},
         {"ln_final", "gpt_neox.final_layer_norm"},
         {"head", "embed_out"},
         {"qkv", "attention.query_key_value"},
         {"o", "attention.dense"},
         {"up", "mlp.dense_h_to_4h"},
         {"down", "mlp.dense_4h_to_h"}});
  return names;
}

// Splits "2.q.bias" into layer, part and ".bias" or ".weight"; of an expert "gate." and its number.
struct PartOf {
  std::string layer, part, leaf = ".weight", expert;
  explicit PartOf(std::string name) {
    if (name.ends_with(".bias")) leaf = ".bias", name.resize(name.size() - 5);
    if (name[0] >= '0' && name[0] <= '9')
      layer = name.substr(0, name.find('.')), name.erase(0, name.find('.') + 1);
    if (const auto dot = name.find('.'); dot != std::string::npos)
      expert = name.substr(dot + 1), name.resize(dot + 1);
    part = name;
  }
};

// q, k and v of every layer as one tensor, and gate and up where asked.
std::map<std::string, Values> fuse(const std::map<std::string, Values>& w, bool gate_up) {
  std::map<std::string, Values> result;
  for (const auto& [name, value] : w) {
    const PartOf p(name);
    const std::string leaf = p.leaf == ".bias" ? ".bias" : "";
    const auto at = [&](const char* part) { return &w.at(p.layer + "." + part + leaf); };
    if (p.part == "q") {
      result[p.layer + ".qkv" + leaf] = below({at("q"), at("k"), at("v")});
    } else if (p.part == "gate" && gate_up) {
      result[p.layer + ".gate_up"] = below({at("gate"), at("up")});
    } else if (p.part != "k" && p.part != "v" && !(p.part == "up" && gate_up)) {
      result[name] = value;
    }
  }
  return result;
}

std::string with(std::string name, const std::string& number) {
  if (const auto at = name.find("{}"); at != std::string::npos) name.replace(at, 2, number);
  return name;
}

}  // namespace

void RandomDecoder::write_folder(const std::filesystem::path& folder, ExpertFiles experts) const {
  const bool gemma = is(family, {"gemma", "gemma2", "gemma3_text"});
  const bool fused = is(family, {"gpt2", "gpt_neox", "phi3"});
  const auto names = hugging_face_names(family);
  const std::string prefix = family == "gpt2"       ? "transformer.h."
                             : family == "gpt_neox" ? "gpt_neox.layers."
                                                    : "model.layers.";
  StoredTensors tensors;
  std::map<std::string, Values> stacked;  // of transformers 5: gate over up, and down, of all experts
  for (auto [name, value] : fused ? fuse(w, family == "phi3") : w) {
    const PartOf p(name);
    if (experts == ExpertFiles::stacked && (!p.expert.empty() || p.part == "router")) {
      const std::string mlp = prefix + p.layer + ".mlp.";
      if (p.part == "router") {
        tensors[mlp + "gate.weight"] = stored_f32(value.shape, value.values);
      } else if (p.part != "up.") {
        const bool down = p.part == "down.";
        if (!down) value = below({&value, &w.at(p.layer + ".up." + p.expert)});
        Values& all = stacked[mlp + (down ? "experts.down_proj" : "experts.gate_up_proj")];
        all.shape = {spec.experts, value.shape[0], value.shape[1]};
        all.values.insert(all.values.end(), value.values.begin(), value.values.end());
      }
      continue;
    }
    std::string full = with(names.at(p.part), p.expert);
    if (!p.layer.empty()) full = prefix + p.layer + "." + full;
    const bool norm = p.part.starts_with("ln") || p.part.ends_with("_norm");
    if (gemma && norm)
      for (float& x : value.values) x -= 1;
    if (family == "gpt2" && !p.layer.empty()) value = transpose(value);
    if (family == "gpt_neox" && p.part == "qkv") {  // of each head q, k, v
      const auto e = static_cast<std::size_t>(spec.head_width), h = static_cast<std::size_t>(spec.heads);
      value = reorder(value, [&](std::size_t r) { return (r / e % 3 * h + r / e / 3) * e + r % e; });
    }
    if (family == "stablelm" && norm && p.part.ends_with("_norm")) {
      const auto e = static_cast<std::ptrdiff_t>(spec.head_width);
      for (std::int64_t head = 0; head < value.shape[0]; ++head)
        tensors[full + "." + std::to_string(head) + ".weight"] = stored_f32(
            {spec.head_width}, {value.values.begin() + head * e, value.values.begin() + (head + 1) * e});
      continue;
    }
    tensors[full + p.leaf] = stored_f32(value.shape, value.values);
  }
  for (const auto& [name, value] : stacked) tensors[name] = stored_f32(value.shape, value.values);
  write_model(folder, config, tensors);
}

bool RandomDecoder::has_gguf() const {
  const bool scaled = !is(spec.rope.rule, {"default", "linear", "llama3", "yarn"});
  if (scaled && !(family == "phi3" && spec.rope.rule == "longrope")) return false;
  if (spec.rope.rule == "yarn" && !spec.rope.truncate) return false;
  // What the format has no key for: other scores' scales, windows of these families, layers without experts.
  if (is(family, {"gpt2"}) && (spec.score_scale > 0 || spec.scale_over_depth)) return false;
  if (is(family, {"gemma2", "gemma3_text"}) &&
      spec.score_scale != 1 / std::sqrt(static_cast<double>(spec.head_width)))
    return false;
  if (family == "gemma2" && spec.logit_cap == 0) return false;
  if (!spec.windows.empty() && !is(family, {"gemma2", "gemma3_text", "phi3"})) return false;
  if (std::find(spec.dense.begin(), spec.dense.end(), true) != spec.dense.end()) return false;
  return spec.experts == 0 || spec.renormalise;
}

GgufFile RandomDecoder::gguf(bool old_expert_names) const {
  static const std::map<std::string, std::string> kArch = {
      {"mistral", "llama"},      {"mixtral", "llama"},    {"qwen3_moe", "qwen3moe"},
      {"gemma3_text", "gemma3"}, {"gpt_neox", "gptneox"}, {"cohere", "command-r"}};
  const std::string arch = kArch.count(family) ? kArch.at(family) : family;
  GgufFile file;
  const auto add = [&](const std::string& key, GgufMetadata value) {
    file.metadata.emplace_back(arch + "." + key, value);
  };
  const auto u32 = [](auto value) { return static_cast<std::uint32_t>(value); };
  file.metadata.emplace_back("general.architecture", arch);
  add("block_count", u32(spec.layers));
  add("context_length", u32(config.value("max_position_embeddings", 80)));
  add("embedding_length", u32(spec.width));
  add("feed_forward_length", u32(spec.mlp_width));
  add("attention.head_count", u32(spec.heads));
  if (!is(family, {"gpt2", "gpt_neox"})) add("attention.head_count_kv", u32(spec.kv_heads));
  if (spec.heads * spec.head_width != spec.width || family == "gemma")
    add("attention.key_length", u32(spec.head_width)), add("attention.value_length", u32(spec.head_width));
  add(spec.centred_norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
      static_cast<float>(spec.eps));
  if (family != "gpt2") {
    add("rope.dimension_count", u32(spec.rotary_width > 0 ? spec.rotary_width : spec.head_width));
    add("rope.freq_base", static_cast<float>(spec.rope.theta));
  }
  if (spec.two_ropes) add("rope.freq_base_swa", static_cast<float>(spec.local_rope.theta));
  if (is(spec.rope.rule, {"linear", "yarn"})) {
    add("rope.scaling.type", std::string(spec.rope.rule));
    add("rope.scaling.factor", static_cast<float>(spec.rope.factor));
  }
  if (spec.rope.rule == "yarn") {
    add("rope.scaling.original_context_length", u32(spec.rope.original));
    add("rope.scaling.yarn_beta_fast", static_cast<float>(spec.rope.beta_fast));
    add("rope.scaling.yarn_beta_slow", static_cast<float>(spec.rope.beta_slow));
    if (!std::isnan(spec.rope.magnitude))
      add("rope.scaling.yarn_attn_factor", static_cast<float>(spec.rope.magnitude));
  }
  if (spec.rope.rule == "longrope") {
    add("rope.scaling.original_context_length", u32(spec.rope.original));
    add("rope.scaling.attn_factor", static_cast<float>(oracle::magnitude(spec.rope)));
  }
  if (is(family, {"gemma2", "gemma3_text", "phi3"}))
    add("attention.sliding_window", u32(spec.windows.empty() ? 0 : spec.windows[0]));
  if (family == "gemma2") {
    add("attn_logit_softcapping", static_cast<float>(spec.score_cap));
    if (spec.logit_cap > 0) add("final_logit_softcapping", static_cast<float>(spec.logit_cap));
  }
  if (family == "gemma3_text" && spec.logit_cap > 0)
    add("final_logit_softcapping", static_cast<float>(spec.logit_cap));
  if (is(family, {"gpt_neox", "stablelm"})) add("use_parallel_residual", spec.parallel);
  if (family == "cohere") {
    add("logit_scale", static_cast<float>(spec.logit_scale));
    if (!is(spec.rope.rule, {"linear", "yarn"})) add("rope.scaling.type", std::string("none"));
  }
  if (spec.experts > 0) {
    add("expert_count", u32(spec.experts));
    add("expert_used_count", u32(spec.chosen));
    if (family == "qwen3_moe") add("expert_feed_forward_length", u32(spec.expert_width));
  }

  static const std::map<std::string, std::string> kNames = {{"embed", "token_embd"},
                                                            {"positions", "position_embd"},
                                                            {"ln_final", "output_norm"},
                                                            {"head", "output"},
                                                            {"ln1", "attn_norm"},
                                                            {"q", "attn_q"},
                                                            {"k", "attn_k"},
                                                            {"v", "attn_v"},
                                                            {"qkv", "attn_qkv"},
                                                            {"o", "attn_output"},
                                                            {"q_norm", "attn_q_norm"},
                                                            {"k_norm", "attn_k_norm"},
                                                            {"ln1_post", "post_attention_norm"},
                                                            {"ln2", "ffn_norm"},
                                                            {"ln2_post", "post_ffw_norm"},
                                                            {"gate", "ffn_gate"},
                                                            {"up", "ffn_up"},
                                                            {"down", "ffn_down"},
                                                            {"gate_up", "ffn_up"},
                                                            {"router", "ffn_gate_inp"},
                                                            {"gate.", "ffn_gate"},
                                                            {"up.", "ffn_up"},
                                                            {"down.", "ffn_down"}};
  std::map<std::string, Values> stacked;
  for (auto [name, value] : is(family, {"gpt2", "gpt_neox", "phi3"}) ? fuse(w, family == "phi3") : w) {
    const PartOf p(name);
    std::string full = p.layer.empty() ? kNames.at(p.part) : "blk." + p.layer + "." + kNames.at(p.part);
    if (arch == "llama" && is(p.part, {"q", "k"})) {  // the halves of each head as neighbours
      const auto e = static_cast<std::size_t>(spec.head_width);
      value = reorder(value, [&](std::size_t r) { return r / e * e + r % e % 2 * (e / 2) + r % e / 2; });
    }
    if (!p.expert.empty() && !old_expert_names) {
      Values& all = stacked[full + "_exps.weight"];
      if (all.shape.empty()) all.shape = {0, value.shape[0], value.shape[1]};
      ++all.shape[0];
      all.values.insert(all.values.end(), value.values.begin(), value.values.end());
      continue;
    }
    if (!p.expert.empty()) full += "." + p.expert;
    file.tensors.push_back({full + p.leaf, value.shape, value.values});
  }
  for (const auto& [name, value] : stacked) file.tensors.push_back({name, value.shape, value.values});
  const auto factors = [&](const char* name, const std::vector<double>& values) {
    if (values.empty()) return;
    file.tensors.push_back(
        {name, {static_cast<std::int64_t>(values.size())}, {values.begin(), values.end()}});
  };
  factors("rope_freqs.weight", rope_divisors);
  if (spec.rope.rule == "longrope") {
    factors("rope_factors_short.weight", spec.rope.short_factor);
    factors("rope_factors_long.weight", spec.rope.long_factor);
  }
  return file;
}

}  // namespace sonde::test
