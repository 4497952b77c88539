#include "models/tensor_table.h"

#include <algorithm>
#include <set>

#include <fmt/ranges.h>

#include "runtime/error.h"

namespace sonde {
namespace {

struct Names {
  Part part;
  const char* hugging_face;
  const char* gguf;
};

constexpr Names kOnce[] = {
    {Part::embed, "model.embed_tokens.weight", "token_embd.weight"},
    {Part::ln_final, "model.norm.weight", "output_norm.weight"},
    {Part::head, "lm_head.weight", "output.weight"},
};
constexpr Names kPerLayer[] = {
    {Part::ln1, "input_layernorm.weight", "attn_norm.weight"},
    {Part::q, "self_attn.q_proj.weight", "attn_q.weight"},
    {Part::q_bias, "self_attn.q_proj.bias", "attn_q.bias"},
    {Part::k, "self_attn.k_proj.weight", "attn_k.weight"},
    {Part::k_bias, "self_attn.k_proj.bias", "attn_k.bias"},
    {Part::v, "self_attn.v_proj.weight", "attn_v.weight"},
    {Part::v_bias, "self_attn.v_proj.bias", "attn_v.bias"},
    {Part::attn_out, "self_attn.o_proj.weight", "attn_output.weight"},
    {Part::attn_out_bias, "self_attn.o_proj.bias", "attn_output.bias"},
    {Part::ln2, "post_attention_layernorm.weight", "ffn_norm.weight"},
    {Part::gate, "mlp.gate_proj.weight", "ffn_gate.weight"},
    {Part::gate_bias, "mlp.gate_proj.bias", "ffn_gate.bias"},
    {Part::up, "mlp.up_proj.weight", "ffn_up.weight"},
    {Part::up_bias, "mlp.up_proj.bias", "ffn_up.bias"},
    {Part::down, "mlp.down_proj.weight", "ffn_down.weight"},
    {Part::down_bias, "mlp.down_proj.bias", "ffn_down.bias"},
};

std::vector<std::int64_t> shape_of(Part part, const ModelSpec& s) {
  const std::int64_t q = s.n_heads * s.d_head, kv = s.n_kv_heads * s.d_head;
  switch (part) {
    case Part::embed:
    case Part::head:
      return {s.vocab, s.d_model};
    case Part::ln1:
    case Part::ln2:
    case Part::ln_final:
      return {s.d_model};
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
    case Part::attn_out:
      return {s.d_model, q};
    case Part::attn_out_bias:
    case Part::down_bias:
      return {s.d_model};
    case Part::gate:
    case Part::up:
      return {s.d_mlp, s.d_model};
    case Part::gate_bias:
    case Part::up_bias:
      return {s.d_mlp};
    case Part::down:
      return {s.d_model, s.d_mlp};
  }
  fail("part {} has no shape", static_cast<int>(part));
}

bool has_part(Part part, const ModelSpec& s) {
  switch (part) {
    case Part::q_bias:
    case Part::k_bias:
    case Part::v_bias:
      return s.qkv_bias;
    case Part::attn_out_bias:
      return s.attn_out_bias;
    case Part::gate_bias:
    case Part::up_bias:
    case Part::down_bias:
      return s.mlp_bias;
    case Part::head:
      return !s.tied_head;
    default:
      return true;
  }
}

// llama.cpp's converter permutes q and k (weights and biases) of the llama architecture.
void set_row_order(TensorRow& row, const ModelSpec& spec) {
  const bool q = row.part == Part::q || row.part == Part::q_bias,
             k = row.part == Part::k || row.part == Part::k_bias;
  if (!q && !k) return;
  row.order = RowOrder::interleaved_pairs;
  row.heads = q ? spec.n_heads : spec.n_kv_heads;
}

std::string shape_text(const Tensor& t) {
  std::string text = "[";
  for (int i = 0; i < t.rank; ++i) text += (i ? ", " : "") + std::to_string(t.dim(i));
  return text + "]";
}

// Buffers that old files carry and nothing reads, and a tied head that repeats the embedding.
bool is_leftover(const std::string& name, ModelFormat format) {
  if (format == ModelFormat::gguf) return name == "rope_freqs.weight";  // read with the config
  return name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight";
}

}  // namespace

std::vector<TensorRow> llama_tensors(const ModelSpec& spec, ModelFormat format) {
  const bool gguf = format == ModelFormat::gguf;
  std::vector<TensorRow> table;
  const auto add = [&](const Names& names, int layer) {
    std::string name = gguf ? names.gguf : names.hugging_face;
    if (layer >= 0) name = fmt::format("{}.{}.{}", gguf ? "blk" : "model.layers", layer, name);
    TensorRow row{.part = names.part,
                  .layer = layer,
                  .name = std::move(name),
                  .shape = shape_of(names.part, spec),
                  .present = has_part(names.part, spec)};
    if (gguf) set_row_order(row, spec);
    table.push_back(std::move(row));
  };
  add(kOnce[0], -1);
  for (int l = 0; l < static_cast<int>(spec.n_layers); ++l)
    for (const Names& names : kPerLayer) add(names, l);
  add(kOnce[1], -1);
  add(kOnce[2], -1);
  return table;
}

const FileTensor& find_tensor(const ModelFiles& files, const TensorRow& row) {
  const FileTensor* found = files.find(row.name);
  if (found == nullptr)
    fail_hint("is the download complete, and does the config belong to these weights?",
              "{}: tensor {} is missing", files.path().string(), row.name);
  const Tensor& t = found->view;
  bool same = t.rank == static_cast<int>(row.shape.size());
  for (int i = 0; same && i < t.rank; ++i) same = t.dim(i) == row.shape[static_cast<std::size_t>(i)];
  if (!same)
    fail_hint("the config does not belong to these weights", "{}: tensor {}: found shape {}, expected [{}]",
              found->file.string(), row.name, shape_text(t), fmt::join(row.shape, ", "));
  const bool real =
      t.dtype == DType::f32 || t.dtype == DType::f16 || t.dtype == DType::bf16 || t.dtype == DType::f64;
  if (!real && !is_quantised(t.dtype))
    fail("{}: tensor {}: found dtype {}, expected a float or a quantised type", found->file.string(),
         row.name, name(t.dtype));
  return *found;
}

void check_tensors(const ModelFiles& files, const std::vector<TensorRow>& table) {
  std::set<std::string_view> known;
  for (const TensorRow& row : table) {
    if (!row.present) continue;
    find_tensor(files, row);
    known.insert(row.name);
  }
  for (const FileTensor& tensor : files.tensors())
    if (!known.count(tensor.name) && !is_leftover(tensor.name, files.format()))
      fail_hint("a weight that is not used would change the model's maths",
                "{}: tensor {} {} is not part of this model", tensor.file.string(), tensor.name,
                shape_text(tensor.view));
}

bool is_block_linear(Part part) {
  switch (part) {
    case Part::q:
    case Part::k:
    case Part::v:
    case Part::attn_out:
    case Part::gate:
    case Part::up:
    case Part::down:
      return true;
    default:
      return false;
  }
}

}  // namespace sonde
