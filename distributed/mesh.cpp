#include "distributed/mesh.h"

#include "runtime/error.h"

namespace sonde {

std::string MeshShape::describe() const {
  return fmt::format("data {} x tensor {} x pipeline {}", data, tensor, pipeline);
}

Mesh Mesh::make(Communicator& world, int tensor, int pipeline) {
  if (tensor < 1 || pipeline < 1 || world.size() % (tensor * pipeline) != 0)
    throw UsageError(
        fmt::format("{} ranks: found --tensor-parallel {} and --pipeline-parallel {}, expected sizes whose "
                    "product divides the ranks",
                    world.size(), tensor, pipeline));
  Mesh mesh;
  mesh.shape = {world.size() / (tensor * pipeline), tensor, pipeline};
  mesh.tensor_index = world.rank() % tensor;
  mesh.pipeline_index = world.rank() / tensor % pipeline;
  mesh.data_index = world.rank() / (tensor * pipeline);
  mesh.world = &world;
  const int t = mesh.tensor_index, p = mesh.pipeline_index, d = mesh.data_index;
  mesh.stage = world.split(p, d * tensor + t, "stage");
  mesh.tensor = world.split(d * pipeline + p, t, "tensor");
  mesh.pipeline = world.split(d * tensor + t, p, "pipeline");
  mesh.model = world.split(d, mesh.stages_behind() * tensor + t, "model");
  mesh.tensor->lie_along(Axis::tensor);
  for (Communicator* group : {mesh.pipeline.get(), mesh.model.get()})
    group->lie_along(pipeline > 1 ? Axis::pipeline : Axis::tensor);
  return mesh;
}

}  // namespace sonde
