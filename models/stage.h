// Pipeline parallel: which layers, and which tensors beside them, one rank of a pipeline holds. Layers are
// cut so that the stages' multiply-adds are as even as whole layers allow, the head's with the last stage's;
// a stage may hold none, the last one has the last layer.
#pragma once

#include "distributed/shares.h"
#include "models/spec.h"
#include "models/tensor_table.h"

namespace sonde {

// What a run computes of a model, the same on all ranks.
struct RunPart {
  std::int64_t layers = -1;  // the first so many, the others are never loaded; -1: all
  double rows = 1;           // recorded rows a token: the last layer's tail and the head are for these alone
  bool head = true;          // false: logits are never asked for

  std::int64_t layers_of(const ModelSpec& spec) const { return layers < 0 ? spec.n_layers : layers; }
};

struct Stage {
  int index = 0, count = 1;
  Share layers{0, 0};  // of those that run, as all numbers of layers

  static Stage of(const ModelSpec& spec, int index, int count, const RunPart& run = {});

  bool first() const { return index == 0; }         // embeds
  bool last() const { return index + 1 == count; }  // has the final norm and the head
  int behind() const { return count - 1 - index; }  // stages that run what this one has run
  bool has(int layer) const { return layer >= layers.begin && layer < layers.end; }
  bool has(const TensorRow& row, const ModelSpec& spec) const;
  // Reads its bytes for the model's fingerprint: of layers that nobody runs the last stage does.
  bool fingerprints(const TensorRow& row, const ModelSpec& spec) const;
  ModelSpec part_of(ModelSpec spec) const;  // L as this stage has it: for sizes, not for the forward
};

}  // namespace sonde
