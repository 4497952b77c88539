#include "models/layer_macs.h"

#include "models/tensor_table.h"

namespace sonde {

std::vector<LayerMacs> layer_macs(const ModelSpec& spec) {
  std::vector<LayerMacs> layers(static_cast<std::size_t>(spec.n_layers));
  for (const TensorRow& row : name_tensors(spec, gguf_names())) {
    if (row.layer < 0 || !(is_block_linear(row.part) || row.part == Part::router)) continue;
    if (row.expert >= spec.experts_per_token) continue;
    LayerMacs& layer = layers[static_cast<std::size_t>(row.layer)];
    const bool attends =
        row.part == Part::q || row.part == Part::k || row.part == Part::v || row.part == Part::qkv;
    (attends ? layer.attends : layer.tail) += row.shape[0] * row.shape[1];
  }
  return layers;
}

}  // namespace sonde
