// A model in memory: its spec and its weights, prepared for a backend.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "distributed/communicator.h"
#include "io/model_files.h"
#include "kernels/backend.h"
#include "models/config_reader.h"
#include "models/fake_quantise.h"
#include "models/spec.h"
#include "models/stage.h"
#include "models/stage_devices.h"
#include "models/tensor_shard.h"

namespace sonde {

// quantised: weights of quantised types stay as they are in the file, expanded panel by panel in every GEMM.
enum class WeightsInMemory : std::uint8_t { prepared, quantised };

struct LoadOptions {
  Precision precision = Precision::f32;
  WeightFormat weights = WeightFormat::as_stored;
  WeightsInMemory in_memory = WeightsInMemory::prepared;
  IgnoredKeys ignored = {};
  RunPart run = {};                      // what is never run of the model is not prepared
  Communicator* tensor_group = nullptr;  // ranks that share the model's layers; null: this one has them whole
  Communicator* stages = nullptr;        // ranks that have some of the layers each; null: this one has all
};

// Tensors that a model does not have are empty, weights null. Sizes are this rank's share; one that holds no
// head or neuron has weights without rows or columns.
struct NormWeights {
  OwnedTensor weight, bias;  // [D]
};

struct MlpWeights {
  std::unique_ptr<Weight> up;    // gated: [2F, D], gate above up; else [F, D]
  OwnedTensor up_bias;           // as up
  std::unique_ptr<Weight> down;  // [D, F]
  OwnedTensor down_bias;         // [D], on the tensor group's first rank alone: added once to the sum
};

// q, k and v stacked to one GEMM, gate and up to another.
struct BlockWeights {
  NormWeights ln1, ln1_post, ln2, ln2_post;
  std::unique_ptr<Weight> qkv;       // [(H + 2K) * E, D]
  OwnedTensor qkv_bias;              // [(H + 2K) * E]
  OwnedTensor q_norm, k_norm;        // [E], [heads, E] or [heads * E]
  std::unique_ptr<Weight> attn_out;  // [D, H * E]
  OwnedTensor attn_out_bias;         // [D], on the tensor group's first rank alone
  std::unique_ptr<Weight> router;    // [X, D], X of the whole model
  std::vector<MlpWeights> mlps;      // one, or one per expert of this rank
};

struct Model {
  ModelSpec spec;  // of the whole model
  TensorShard shard;
  Stage stage;
  Communicator *tensor_group = nullptr, *stages = nullptr;  // as LoadOptions
  std::unique_ptr<DeviceRanks> device_ranks;  // the same ranks, where their devices talk to each other
  std::string sums;                           // how a sum over the group is made
  StageDevices stage_devices;                 // of `stages`
  Precision precision;
  std::string name;          // folder or file name
  std::string fingerprint;   // sha256 over spec, tensor table and a checksum of every tensor's bytes
  ModelFiles files;          // keeps the embedding table and kept weights mapped
  Tensor embed;              // [V, D] in the file's dtype; on the first stage
  OwnedTensor embed_memory;  // its memory where that isn't the mapped file's
  std::vector<BlockWeights> own_blocks;  // of the stage's layers
  OwnedTensor positions;                 // f32 [context, D] where positions are learned; on the first stage
  NormWeights ln_final;                  // [D]; on the last stage
  std::unique_ptr<Weight> head;          // [V, D]; on the last stage, null when not asked for
  std::int64_t cut_weights = 0;  // kept as stored they would cut blocks between ranks: these are expanded

  // Reads, checks and prepares every weight. NaN or infinity in a weight is an Error that names the tensor.
  static Model load(const std::filesystem::path& path, const LoadOptions& options, Backend& backend);
  // The same shape with random weights (seeded, normal with 1/sqrt(K)), for benchmarks.
  static Model random(const ModelSpec& spec, const LoadOptions& options, std::uint64_t seed,
                      Backend& backend);

  const BlockWeights& block(int layer) const;
  std::int64_t weight_bytes() const;  // prepared weights in memory
};

// Multiply-adds of one token in the linear layers of all blocks; of experts, those it goes to.
std::int64_t block_linear_macs(const ModelSpec& spec);
std::int64_t parameter_count(const ModelSpec& spec);

}  // namespace sonde
