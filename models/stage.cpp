#include "models/stage.h"

#include <algorithm>
#include <cmath>

#include "models/layer_macs.h"

namespace sonde {
namespace {

// The number of layers before each stage and behind the last one. [count + 1]
std::vector<std::int64_t> cuts_of(const ModelSpec& spec, int count, const RunPart& run) {
  const std::int64_t layers = run.layers_of(spec);
  const std::vector<LayerMacs> macs = layer_macs(spec);
  const auto recorded = [&](std::int64_t n) { return std::llround(run.rows * static_cast<double>(n)); };
  std::vector<std::int64_t> before = {0};  // multiply-adds of a token before each layer
  for (std::int64_t l = 0; l < layers; ++l) {
    const LayerMacs& layer = macs[static_cast<std::size_t>(l)];
    before.push_back(before.back() + layer.attends + (l + 1 < layers ? layer.tail : recorded(layer.tail)));
  }
  const std::int64_t total = before.back() + (run.head ? recorded(head_macs(spec)) : 0);
  std::vector<std::int64_t> cuts = {0};
  for (int stage = 1; stage < count; ++stage) {
    std::int64_t cut = cuts.back();
    while (cut + 1 < layers && before[static_cast<std::size_t>(cut + 1)] * count <= total * stage) ++cut;
    cuts.push_back(cut);
  }
  cuts.push_back(layers);
  return cuts;
}

}  // namespace

Stage Stage::of(const ModelSpec& spec, int index, int count, const RunPart& run) {
  const std::vector<std::int64_t> cuts = cuts_of(spec, count, run);
  const auto i = static_cast<std::size_t>(index);
  return {index, count, {cuts[i], cuts[i + 1]}};
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

bool Stage::fingerprints(const TensorRow& row, const ModelSpec& spec) const {
  if (row.part == Part::embed) return first();  // of two stages that have it, the first
  return has(row, spec) || (last() && row.layer >= layers.end);
}

ModelSpec Stage::part_of(ModelSpec spec) const {
  spec.n_layers = layers.size();
  return spec;
}

}  // namespace sonde
