// What one rank holds, by kind, on a mesh of any size. The same rows of the tensor table as the loader's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/plan/work.h"
#include "models/stage.h"

namespace sonde {

// How ranks are arranged: data x tensor x pipeline.
struct PlanMesh {
  std::int64_t data = 1, tensor = 1, pipeline = 1;
  std::int64_t ranks() const { return data * tensor * pipeline; }
};

struct MemoryKind {
  std::string name;
  std::int64_t bytes;
};
std::int64_t total(const std::vector<MemoryKind>& kinds);

struct MemoryOptions {
  Precision precision = Precision::f32;  // of prepared weights
  std::int64_t embed_bytes = 4;          // of a value of the embedding table, as the file has it
  std::int64_t file_bytes = 0;           // of the model's files: mapped while a CPU loads them
  double kept = 0;                       // share of the linear weights that stay as the file has them,
  double kept_bytes = 0;                 // and what a value of these takes there: a CPU reads it in the file
  std::int64_t cache_tokens = 0;         // of a KV cache, for generation
  bool gpu = false;
};

// The part of a spec that a rank of a tensor group holds at most: heads with their keys, neurons, experts and
// vocabulary in whole units; keys and values are replicated where there are fewer heads than ranks.
ModelSpec tensor_share(const ModelSpec& spec, std::int64_t tensor);

// Of the rank that holds most. Host memory of ranks with a GPU is not in it: staging_bytes.
std::vector<MemoryKind> rank_memory(const ModelSpec& spec, const Work& work, const StoreSchema& schema,
                                    const MemoryOptions& options, const PlanMesh& mesh);
// Weights alone: all prepared matrices, norms and biases of a stage, without the embedding.
std::int64_t weight_bytes(const ModelSpec& spec, const MemoryOptions& options, std::int64_t tensor,
                          const Stage& stage, bool head);
// What looking through the embedding table, for numbers that are none, counts beside prepared weights.
std::int64_t embedding_load(const ModelSpec& spec, Precision precision);
std::int64_t cache_bytes(const ModelSpec& spec, std::int64_t tokens);  // keys and values, float32

}  // namespace sonde
