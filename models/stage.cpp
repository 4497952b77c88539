#include "models/stage.h"

namespace sonde {

Stage Stage::of(const ModelSpec& spec, int index, int count) {
  return {index, count, share_of(spec.n_layers, index, count)};
}

bool Stage::has(const TensorRow& row, const ModelSpec& spec) const {
  switch (row.part) {
    case Part::embed:
      return first() || (last() && spec.tied_head);
    case Part::positions:
      return first();
    case Part::ln_final:
    case Part::ln_final_bias:
    case Part::head:
      return last();
    default:
      return has(row.layer);
  }
}

ModelSpec Stage::part_of(ModelSpec spec) const {
  spec.n_layers = layers.size();
  return spec;
}

}  // namespace sonde
