// Ranks as a mesh of named axes, data x pipeline x tensor: tensor neighbours are consecutive ranks, so that a
// launcher that fills nodes one after another keeps them inside a node.
#pragma once

#include <memory>
#include <string>

#include "distributed/communicator.h"

namespace sonde {

struct MeshShape {
  int data = 1, tensor = 1, pipeline = 1;
  std::string describe() const;  // "data 3 x tensor 1 x pipeline 1"
};

struct Mesh {
  MeshShape shape;
  int data_index = 0, tensor_index = 0, pipeline_index = 0;  // of this rank
  int local = 0;  // this rank's number among those of its machine, where somebody counted
  // Ranks that differ in this axis alone.
  std::unique_ptr<Communicator> tensor, pipeline;
  std::unique_ptr<Communicator> stage;  // ranks of all models that hold the same layers
  std::unique_ptr<Communicator> model;  // ranks that hold a model together, the last stage first
  Communicator* world = nullptr;        // all of them

  int stages_behind() const { return shape.pipeline - 1 - pipeline_index; }
  // Ranks of the last stage write: what other stages find has come when their own is there.
  bool writes() const { return stages_behind() == 0; }
  bool leads() const { return writes() && tensor_index == 0; }  // the first rank of `model`

  // Of all of `world`: data is what is left; sizes that don't divide the ranks are a UsageError.
  static Mesh make(Communicator& world, int tensor, int pipeline);
};

}  // namespace sonde
