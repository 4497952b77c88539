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
  // Ranks that differ in this axis alone.
  std::unique_ptr<Communicator> data, tensor, pipeline;
  std::unique_ptr<Communicator> model;  // ranks that hold a model together, stage by stage

  bool leads() const { return tensor_index == 0 && pipeline_index == 0; }  // the first rank of `model`

  // Of all of `world`: data is what is left; sizes that don't divide the ranks are a UsageError.
  static Mesh make(Communicator& world, int tensor, int pipeline);
};

}  // namespace sonde
