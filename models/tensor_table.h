// The tensors of a model, one row each: what they are called in the files, their shape, how the file stores
// them. Loader, checker, memory planner and `sonde describe` all walk this table.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/model_files.h"
#include "models/spec.h"

namespace sonde {

// What a tensor is for, independent of file formats. Weights are [out, in].
enum class Part : std::uint8_t {
  embed,      // [V, D]
  positions,  // [context, D]
  ln1,
  ln1_bias,  // [D]
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,  // [H*E, D], [H*E], [K*E, D], [K*E]
  qkv,
  qkv_bias,  // [(H + 2K)*E, D]: the three as one tensor
  q_norm,
  k_norm,  // [E], [H, E] or [H*E]
  attn_out,
  attn_out_bias,  // [D, H*E], [D]
  ln1_post,       // [D]
  ln2,
  ln2_bias,  // [D]
  router,    // [X, D]
  gate,
  gate_bias,
  up,
  up_bias,  // [F, D], [F]; up alone where the MLP has no gate
  gate_up,  // [2F, D]: the two as one tensor
  down,
  down_bias,  // [D, F], [D]
  ln2_post,   // [D]
  ln_final,
  ln_final_bias,  // [D]
  head,           // [V, D]
};

// Rows a file stores in another order than ours.
enum class RowOrder : std::uint8_t {
  plain,
  interleaved_pairs,  // llama.cpp's q and k of Llama: (i, i + E/2) of each head stored side by side
  qkv_per_head,       // GPT-NeoX: q, k and v of head 0, then of head 1, ...
};

// What the ranks of a tensor group share a tensor out by (tensor_shard.h).
enum class RankSplit : std::uint8_t {
  none,            // every rank has all of it
  once,            // added to a sum over ranks: the first rank alone has it
  expert,          // an expert's: whole, where the expert is
  vocab,           // rows
  heads,           // rows, `head_rows` a head
  kv_heads,        // likewise
  one_head,        // a tensor for the head `head`
  one_kv_head,     // likewise
  qkv,             // rows of heads, kv heads and kv heads below each other
  neurons,         // rows
  gate_up,         // rows of neurons, twice
  head_columns,    // `head_rows` columns a head
  neuron_columns,  // columns
};

struct TensorRow {
  Part part;
  int layer = -1;                   // -1: once per model
  int expert = -1;                  // -1: not an expert's
  std::string name;                 // in this file format
  std::vector<std::int64_t> shape;  // ours: [out, in] or [n]
  RowOrder order = RowOrder::plain;
  std::int64_t heads = 0;   // for the row orders
  bool transposed = false;  // stored [in, out]
  bool stacked = false;     // stored as [X, out, in], this is slice `expert`
  float plus = 0;           // added to what is stored
  RankSplit split = RankSplit::none;
  std::int64_t head_rows = 0;  // for splits by heads
  std::int64_t head = 0;       // of one_head and one_kv_head

  std::vector<std::int64_t> stored_shape(std::int64_t experts) const;
};

// Names of one family in one format; every list is in the order of Part.
struct PartName {
  Part part;
  const char* name;  // per layer without the layer's prefix; {} stands for the expert, or for the head
};

struct TensorNames {
  const char* layer_prefix;  // "model.layers.{}."
  std::span<const PartName> once, per_layer;
  RowOrder qk_order = RowOrder::plain, qkv_order = RowOrder::plain;
  bool conv1d = false;           // block weights are stored [in, out]
  bool stacked_experts = false;  // one tensor for all experts of a layer; else ".0", ".1", ...
  float norm_plus = 0;           // added to every norm's weight (Gemma stores w - 1)
};

// The rows that a model of this spec has, pieces of one part below each other in the table's order. `check`
// sees each as it comes.
std::vector<TensorRow> name_tensors(const ModelSpec& spec, const TensorNames& names,
                                    const std::function<void(const TensorRow&)>& check = {});

// Llama's names at Hugging Face, which most families share, and llama.cpp's, which all do.
TensorNames llama_names();
TensorNames llama_names_with_stacked_experts();  // of Qwen 3 and Mixtral
TensorNames gguf_names();
TensorNames gguf_names_with_qkv();  // of architectures whose q, k and v are one tensor

// The file's tensor for a row: checks name, dtype and shape and prints both on disagreement. A base model's
// prefix ("model.", "transformer.", "gpt_neox.") may be missing in the file.
const FileTensor& find_tensor(const ModelFiles& files, const TensorRow& row, std::int64_t experts);
// Every tensor of the file must be a row of the table or a known leftover (buffers); otherwise an Error.
void check_tensors(const ModelFiles& files, const std::vector<TensorRow>& table, const ModelSpec& spec);

// Linear layers of the blocks: what --weights quantises and what gemm_fraction counts.
bool is_block_linear(Part part);
// What a weight is prepared as: fp8 is for the blocks' own products, heads, routers and experts are bf16
// then.
Precision precision_of(Part part, int expert /*-1: not an expert's*/, Precision asked);
bool is_norm(Part part);  // weights around 1

}  // namespace sonde
