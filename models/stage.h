// Pipeline parallel: which layers, and which tensors beside them, one rank of a pipeline holds. Layers are
// split as evenly as whole ones allow; a stage may hold none, the last one has the last layer.
#pragma once

#include "distributed/shares.h"
#include "models/spec.h"
#include "models/tensor_table.h"

namespace sonde {

struct Stage {
  int index = 0, count = 1;
  Share layers{0, 0};  // of the whole model's, as all numbers of layers

  static Stage of(const ModelSpec& spec, int index, int count);

  bool first() const { return index == 0; }         // embeds
  bool last() const { return index + 1 == count; }  // has the final norm and the head
  int behind() const { return count - 1 - index; }  // stages that run what this one has run
  bool has(int layer) const { return layer >= layers.begin && layer < layers.end; }
  bool has(const TensorRow& row, const ModelSpec& spec) const;
  ModelSpec part_of(ModelSpec spec) const;  // L as this stage has it: for sizes, not for the forward
};

}  // namespace sonde
