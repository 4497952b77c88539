#include "models/tensor_table.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/ranges.h>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr PartName kLlamaOnce[] = {
    {Part::embed, "model.embed_tokens.weight"},
    {Part::ln_final, "model.norm.weight"},
    {Part::ln_final_bias, "model.norm.bias"},
    {Part::head, "lm_head.weight"},
};
constexpr PartName kLlamaPerLayer[] = {
    {Part::ln1, "input_layernorm.weight"},
    {Part::ln1_bias, "input_layernorm.bias"},
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
    {Part::ln2, "post_attention_layernorm.weight"},
    {Part::ln2_bias, "post_attention_layernorm.bias"},
    {Part::router, "mlp.gate.weight"},  // experts as transformers 5 holds them: one tensor for all of a layer
    {Part::gate_up, "mlp.experts.gate_up_proj"},
    {Part::down, "mlp.experts.down_proj"},
    {Part::gate, "mlp.gate_proj.weight"},
    {Part::gate_bias, "mlp.gate_proj.bias"},
    {Part::up, "mlp.up_proj.weight"},
    {Part::up_bias, "mlp.up_proj.bias"},
    {Part::down, "mlp.down_proj.weight"},
    {Part::down_bias, "mlp.down_proj.bias"},
};

constexpr PartName kGgufOnce[] = {
    {Part::embed, "token_embd.weight"},     {Part::positions, "position_embd.weight"},
    {Part::ln_final, "output_norm.weight"}, {Part::ln_final_bias, "output_norm.bias"},
    {Part::head, "output.weight"},
};
constexpr PartName kGgufPerLayer[] = {
    {Part::ln1, "attn_norm.weight"},
    {Part::ln1_bias, "attn_norm.bias"},
    {Part::q, "attn_q.weight"},
    {Part::q_bias, "attn_q.bias"},
    {Part::k, "attn_k.weight"},
    {Part::k_bias, "attn_k.bias"},
    {Part::v, "attn_v.weight"},
    {Part::v_bias, "attn_v.bias"},
    {Part::q_norm, "attn_q_norm.weight"},
    {Part::k_norm, "attn_k_norm.weight"},
    {Part::attn_out, "attn_output.weight"},
    {Part::attn_out_bias, "attn_output.bias"},
    {Part::ln1_post, "post_attention_norm.weight"},
    {Part::ln2, "ffn_norm.weight"},
    {Part::ln2_bias, "ffn_norm.bias"},
    {Part::router, "ffn_gate_inp.weight"},
    {Part::gate, "ffn_gate_exps.weight"},
    {Part::up, "ffn_up_exps.weight"},
    {Part::down, "ffn_down_exps.weight"},
    {Part::gate, "ffn_gate.weight"},
    {Part::gate_bias, "ffn_gate.bias"},
    {Part::up, "ffn_up.weight"},
    {Part::up_bias, "ffn_up.bias"},
    {Part::down, "ffn_down.weight"},
    {Part::down_bias, "ffn_down.bias"},
    {Part::ln2_post, "post_ffw_norm.weight"},
};

constexpr PartName kGgufQkvPerLayer[] = {
    {Part::ln1, "attn_norm.weight"},
    {Part::ln1_bias, "attn_norm.bias"},
    {Part::qkv, "attn_qkv.weight"},
    {Part::qkv_bias, "attn_qkv.bias"},
    {Part::attn_out, "attn_output.weight"},
    {Part::attn_out_bias, "attn_output.bias"},
    {Part::ln2, "ffn_norm.weight"},
    {Part::ln2_bias, "ffn_norm.bias"},
    {Part::up, "ffn_up.weight"},
    {Part::up_bias, "ffn_up.bias"},
    {Part::down, "ffn_down.weight"},
    {Part::down_bias, "ffn_down.bias"},
};

bool is_expert_weight(Part part) {
  return part == Part::gate || part == Part::up || part == Part::gate_up || part == Part::down;
}

// f: the width of the MLP, an expert's or the dense one.
std::vector<std::int64_t> shape_of(Part part, const ModelSpec& s, std::int64_t f) {
  const std::int64_t q = s.n_heads * s.d_head, kv = s.n_kv_heads * s.d_head;
  switch (part) {
    case Part::embed:
    case Part::head:
      return {s.vocab, s.d_model};
    case Part::positions:
      return {s.context, s.d_model};
    case Part::q:
      return {q, s.d_model};
    case Part::q_bias:
      return {q};
    case Part::k:
    case Part::v:
      return {kv, s.d_model};
    case Part::k_bias:
    case Part::v_bias:
      return {kv};
    case Part::qkv:
      return {q + 2 * kv, s.d_model};
    case Part::qkv_bias:
      return {q + 2 * kv};
    case Part::q_norm:
    case Part::k_norm: {
      const std::int64_t heads = part == Part::q_norm ? s.n_heads : s.n_kv_heads;
      if (s.qk_norm == QkNorm::shared) return {s.d_head};
      if (s.qk_norm == QkNorm::whole) return {heads * s.d_head};
      return {heads, s.d_head};
    }
    case Part::attn_out:
      return {s.d_model, q};
    case Part::router:
      return {s.n_experts, s.d_model};
    case Part::gate:
    case Part::up:
      return {f, s.d_model};
    case Part::gate_up:
      return {2 * f, s.d_model};
    case Part::gate_bias:
    case Part::up_bias:
      return {f};
    case Part::down:
      return {s.d_model, f};
    default:  // norms and the biases of what a sublayer adds
      return {s.d_model};
  }
}

RankSplit split_of(Part part, const ModelSpec& s) {
  switch (part) {
    case Part::embed:
    case Part::head:
      return RankSplit::vocab;
    case Part::q:
    case Part::q_bias:
      return RankSplit::heads;
    case Part::k:
    case Part::k_bias:
    case Part::v:
    case Part::v_bias:
      return RankSplit::kv_heads;
    case Part::qkv:
    case Part::qkv_bias:
      return RankSplit::qkv;
    case Part::q_norm:
      return s.qk_norm == QkNorm::shared ? RankSplit::none : RankSplit::heads;
    case Part::k_norm:
      return s.qk_norm == QkNorm::shared ? RankSplit::none : RankSplit::kv_heads;
    case Part::attn_out:
      return RankSplit::head_columns;
    case Part::gate:
    case Part::gate_bias:
    case Part::up:
    case Part::up_bias:
      return RankSplit::neurons;
    case Part::gate_up:
      return RankSplit::gate_up;
    case Part::down:
      return RankSplit::neuron_columns;
    case Part::attn_out_bias:
    case Part::down_bias:
      return RankSplit::once;
    default:
      return RankSplit::none;
  }
}

bool has_part(Part part, const ModelSpec& s, int layer) {
  switch (part) {
    case Part::positions:
      return s.learned_positions;
    case Part::q_bias:
    case Part::k_bias:
    case Part::v_bias:
    case Part::qkv_bias:
      return s.qkv_bias;
    case Part::q_norm:
    case Part::k_norm:
      return s.qk_norm != QkNorm::none;
    case Part::attn_out_bias:
      return s.attn_out_bias;
    case Part::ln1:
      return s.pre_norms;
    case Part::ln1_bias:
      return s.pre_norms && s.norm_bias;
    case Part::ln2:
      return s.pre_norms && !s.shared_norm;
    case Part::ln2_bias:
      return s.pre_norms && !s.shared_norm && s.norm_bias;
    case Part::ln1_post:
    case Part::ln2_post:
      return s.post_norms;
    case Part::ln_final_bias:
      return s.norm_bias;
    case Part::router:
      return s.has_experts(layer);
    case Part::gate:
      return s.gated_mlp;
    case Part::gate_bias:
      return s.gated_mlp && s.mlp_bias;
    case Part::up_bias:
    case Part::down_bias:
      return s.mlp_bias;
    case Part::head:
      return !s.tied_head;
    default:
      return true;
  }
}

std::string with_number(std::string name, std::int64_t number) {
  if (const auto at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(number));
  return name;
}

template <class Dims>
std::string shape_text(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}
std::string shape_text(const Tensor& t) {
  return shape_text(std::vector<std::int64_t>(t.shape.begin(), t.shape.begin() + t.rank));
}

// A base model's files name its tensors without the prefix that the whole model's files have.
const FileTensor* find_with_or_without_prefix(const ModelFiles& files, const std::string& name) {
  if (const FileTensor* found = files.find(name)) return found;
  for (const std::string_view prefix : {"model.", "transformer.", "gpt_neox."})
    if (name.starts_with(prefix)) return files.find(std::string_view(name).substr(prefix.size()));
  return nullptr;
}

// Buffers that old files carry and nothing reads, and a tied head that repeats the embedding.
bool is_leftover(const std::string& name, const ModelSpec& spec, ModelFormat format) {
  if (format == ModelFormat::gguf) return name.starts_with("rope_f");  // read with the metadata
  for (const std::string_view end : {"rotary_emb.inv_freq", ".attn.bias", ".attention.bias", ".masked_bias"})
    if (name.ends_with(end)) return true;
  return spec.tied_head && (name == "lm_head.weight" || name == "embed_out.weight");
}

}  // namespace

TensorNames llama_names() { return {"model.layers.{}.", kLlamaOnce, kLlamaPerLayer}; }
TensorNames gguf_names() {
  TensorNames names{"blk.{}.", kGgufOnce, kGgufPerLayer};
  names.stacked_experts = true;
  return names;
}

TensorNames llama_names_with_stacked_experts() {
  TensorNames names{"model.layers.{}.", kLlamaOnce, kLlamaPerLayer};
  names.stacked_experts = true;
  return names;
}

TensorNames gguf_names_with_qkv() { return {"blk.{}.", kGgufOnce, kGgufQkvPerLayer}; }

std::vector<std::int64_t> TensorRow::stored_shape(std::int64_t experts) const {
  std::vector<std::int64_t> stored = shape;
  if (transposed) std::ranges::reverse(stored);
  if (stacked) stored.insert(stored.begin(), experts);
  return stored;
}

std::vector<TensorRow> name_tensors(const ModelSpec& spec, const TensorNames& names,
                                    const std::function<void(const TensorRow&)>& check) {
  std::vector<TensorRow> table;
  const auto add = [&](TensorRow row) {
    if (check) check(row);
    table.push_back(std::move(row));
  };
  const auto row_of = [&](const PartName& named, int layer, std::int64_t f) {
    TensorRow row{
        .part = named.part, .layer = layer, .name = named.name, .shape = shape_of(named.part, spec, f)};
    if (is_norm(named.part)) row.plus = names.norm_plus;
    if (layer >= 0) row.name = with_number(names.layer_prefix, layer) + row.name;
    const bool q = named.part == Part::q || named.part == Part::q_bias;
    const bool k = named.part == Part::k || named.part == Part::k_bias;
    if (q || k) row.order = names.qk_order, row.heads = q ? spec.n_heads : spec.n_kv_heads;
    if (named.part == Part::qkv || named.part == Part::qkv_bias)
      row.order = names.qkv_order, row.heads = spec.n_heads;
    row.transposed = names.conv1d && is_block_linear(named.part);
    row.split = split_of(named.part, spec);
    const bool per_head =
        row.split != RankSplit::none && (named.part == Part::q_norm || named.part == Part::k_norm);
    row.head_rows = per_head && spec.qk_norm == QkNorm::per_head ? 1 : spec.d_head;
    return row;
  };
  const auto add_layer = [&](int layer) {
    const bool experts = spec.has_experts(layer);
    for (const PartName& named : names.per_layer) {
      if (!has_part(named.part, spec, layer)) continue;
      if (is_expert_weight(named.part)) {
        // Of two rows for one part, the one for experts names the expert, or a stack of them.
        const std::string_view name = named.name;
        const bool for_experts = name.find("{}") != name.npos || name.find("_exps") != name.npos ||
                                 name.find(".experts.") != name.npos;
        if (for_experts != experts) continue;
        for (int e = 0; e < (experts ? spec.n_experts : 1); ++e) {
          TensorRow row = row_of(named, layer, experts ? spec.d_expert : spec.d_mlp);
          if (experts) {
            row.expert = e, row.stacked = names.stacked_experts, row.name = with_number(row.name, e);
            row.split = RankSplit::expert;
            if (const auto at = row.name.find("_exps"); at != std::string::npos && !row.stacked)
              row.name.replace(at, 5, "." + std::to_string(e));  // files before 2024-04
          }
          add(std::move(row));
        }
        continue;
      }
      TensorRow row = row_of(named, layer, spec.d_mlp);
      if (row.name.find("{}") == std::string::npos) {
        add(std::move(row));
        continue;
      }
      for (std::int64_t head = 0; head < row.shape[0]; ++head) {  // a norm's weight as one tensor per head
        TensorRow one = row;
        one.name = with_number(row.name, head);
        one.shape = {row.shape[1]};
        one.split = row.split == RankSplit::heads ? RankSplit::one_head : RankSplit::one_kv_head,
        one.head = head;
        add(std::move(one));
      }
    }
  };
  for (const PartName& named : names.once)
    if (named.part < Part::ln1 && has_part(named.part, spec, -1)) add(row_of(named, -1, 0));
  for (int l = 0; l < static_cast<int>(spec.n_layers); ++l) add_layer(l);
  for (const PartName& named : names.once)
    if (named.part >= Part::ln1 && has_part(named.part, spec, -1)) add(row_of(named, -1, 0));
  return table;
}

const FileTensor& find_tensor(const ModelFiles& files, const TensorRow& row, std::int64_t experts) {
  const FileTensor* found = find_with_or_without_prefix(files, row.name);
  if (found == nullptr)
    fail_hint("is the download complete, and does the config belong to these weights?",
              "{}: tensor {} is missing", files.path().string(), row.name);
  const Tensor& t = found->view;
  const std::vector<std::int64_t> expected = row.stored_shape(experts);
  bool same = t.rank == static_cast<int>(expected.size());
  for (int i = 0; same && i < t.rank; ++i) same = t.dim(i) == expected[static_cast<std::size_t>(i)];
  if (!same)
    fail_hint("the config does not belong to these weights", "{}: tensor {}: found shape {}, expected {}",
              found->file.string(), found->name, shape_text(t), shape_text(expected));
  const bool real =
      t.dtype == DType::f32 || t.dtype == DType::f16 || t.dtype == DType::bf16 || t.dtype == DType::f64;
  if (!real && !is_quantised(t.dtype))
    fail("{}: tensor {}: found dtype {}, expected a float or a quantised type", found->file.string(),
         found->name, name(t.dtype));
  return *found;
}

void check_tensors(const ModelFiles& files, const std::vector<TensorRow>& table, const ModelSpec& spec) {
  std::set<std::string_view> known;
  for (const TensorRow& row : table) known.insert(find_tensor(files, row, spec.n_experts).name);
  for (const FileTensor& tensor : files.tensors())
    if (!known.count(tensor.name) && !is_leftover(tensor.name, spec, files.format()))
      fail_hint("a weight that is not used would change the model's maths",
                "{}: tensor {} {} is not part of this model", tensor.file.string(), tensor.name,
                shape_text(tensor.view));
}

bool is_norm(Part part) {
  constexpr std::array kNorms = {Part::ln1,      Part::ln2,    Part::ln1_post, Part::ln2_post,
                                 Part::ln_final, Part::q_norm, Part::k_norm};
  return std::ranges::find(kNorms, part) != kNorms.end();
}

bool is_block_linear(Part part) {
  constexpr std::array kLinear = {Part::q,    Part::k,  Part::v,       Part::qkv, Part::attn_out,
                                  Part::gate, Part::up, Part::gate_up, Part::down};
  return std::ranges::find(kLinear, part) != kLinear.end();
}

Precision precision_of(Part part, int expert, Precision asked) {
  const bool own = is_block_linear(part) && expert < 0;
  return asked == Precision::fp8 && !own ? Precision::bf16 : asked;
}

}  // namespace sonde
