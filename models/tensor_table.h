// The tensors of a model, one row each: what they are called in the files, their shape, whether they must be
// there. Loader, checker, memory planner and `sonde describe` all walk this table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/model_files.h"
#include "models/spec.h"

namespace sonde {

// What a tensor is for, independent of file formats. Weights are [out, in].
enum class Part : std::uint8_t {
  embed,  // [V, D]
  ln1,    // [D]
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,  // [H*E, D], [H*E], [K*E, D], [K*E]
  attn_out,
  attn_out_bias,  // [D, H*E], [D]
  ln2,            // [D]
  gate,
  gate_bias,
  up,
  up_bias,
  down,
  down_bias,  // [F, D], [F], [D, F], [D]
  ln_final,   // [D]
  head,       // [V, D]
};

// Rows a file stores in another order than Hugging Face's.
enum class RowOrder : std::uint8_t {
  plain,
  interleaved_pairs,  // llama.cpp's q and k: (i, i + E/2) of each head stored side by side
};

struct TensorRow {
  Part part;
  int layer;         // -1: once per model
  std::string name;  // in this file format
  std::vector<std::int64_t> shape;
  bool present = true;  // false: a row this model does not have; the file must not have it either
  RowOrder order = RowOrder::plain;
  std::int64_t heads = 0;  // for interleaved_pairs
};

// Llama's tensors under Hugging Face's or llama.cpp's names: where every other family starts from.
std::vector<TensorRow> llama_tensors(const ModelSpec& spec, ModelFormat format);

// The file's tensor for a row: checks name, dtype and shape and prints both on disagreement.
const FileTensor& find_tensor(const ModelFiles& files, const TensorRow& row);
// Every tensor of the file must be a row of the table or a known leftover (buffers); otherwise an Error.
void check_tensors(const ModelFiles& files, const std::vector<TensorRow>& table);

// q, k, v, o, gate, up, down: what --weights quantises and what gemm_fraction counts.
bool is_block_linear(Part part);

}  // namespace sonde
