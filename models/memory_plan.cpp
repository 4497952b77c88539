#include "models/memory_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "models/family.h"
#include "models/tensor_table.h"
#include "models/transformer.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// Which rows of the table become one weight, as Model stacks them: the first of them.
Part stacked_as(Part part) {
  if (part == Part::q || part == Part::k || part == Part::v) return Part::qkv;
  return part == Part::gate || part == Part::up ? Part::gate_up : part;
}

void add_weights(DeviceMemoryPlan& plan, const ModelFiles& files, const ModelSpec& spec,
                 const TensorShard& shard, const Stage& stage, const LoadOptions& options) {
  std::map<std::tuple<int, int, Part>, std::int64_t> weights;  // layer, expert, part: bytes
  for (const TensorRow& row : tensors_of(files, spec)) {
    if (!stage.has(row, spec)) continue;
    const FileTensor& tensor = find_tensor(files, row, spec.n_experts);
    const DType dtype = tensor.view.dtype;
    const Slab slab = shard.slab(row);
    const std::int64_t count = slab.row_count() * slab.columns.size();
    const Precision precision = precision_of(row.part, row.expert, options.precision);
    const bool kept = options.in_memory == WeightsInMemory::quantised && is_quantised(dtype) &&
                      slab.columns.size() % info(dtype).block_values == 0;
    const std::int64_t prepared =
        kept ? bytes_of(dtype, count) : bytes_of_weight(precision, slab.row_count(), slab.columns.size());
    if (row.part == Part::embed) {
      if (stage.first()) plan.tables += bytes_of(dtype, count);
      if (options.run.head && stage.last() && spec.tied_head) weights[{-1, -1, Part::head}] += prepared;
    } else if (row.part == Part::head) {
      if (options.run.head) weights[{-1, -1, Part::head}] += prepared;
    } else if (row.part == Part::router || is_block_linear(row.part)) {
      weights[{row.layer, row.expert, stacked_as(row.part)}] += prepared;
    } else {
      plan.tables += 4 * count;
    }
  }
  for (const auto& [key, bytes] : weights) {
    plan.weights += bytes;
    plan.largest = std::max(plan.largest, bytes);
  }
}

// What ops keep beside the tensors they are given: operands in 16 bits, blocks of a weight expanded, sums in
// fp8 of widths that cuBLASLt takes filled up alone.
std::int64_t ops_own(const DeviceMemoryPlan& plan) {
  return std::min<std::int64_t>(std::int64_t{96} << 20, 3 * plan.largest) + (std::int64_t{8} << 20);
}
std::int64_t ops_own_of_token(const ModelSpec& s, Precision precision) {
  const std::int64_t qkv = (s.n_heads + 2 * s.n_kv_heads) * s.d_head;
  const bool filled_up = precision == Precision::fp8 && (s.d_model | qkv | s.d_mlp) % 16 != 0;
  const std::int64_t sums = filled_up ? 4 * (std::max({s.d_model, qkv, 2 * s.d_mlp}) + 15) : 0;
  const std::int64_t widest = std::max(
      {s.d_model, s.n_heads * s.d_head, s.d_mlp, s.n_experts > 0 ? s.experts_per_token * s.d_expert : 0});
  return sums + 2 * widest + 4 * s.n_experts + 2 * (s.n_heads + 2 * s.n_kv_heads) * (s.d_head + 16);
}

std::string size(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes < std::int64_t{1} << 30 ? fmt::format("{:.1f} MiB", value / (1 << 20))
                                       : fmt::format("{:.2f} GiB", value / (1 << 30));
}

}  // namespace

std::string DeviceMemoryPlan::describe() const {
  if (resident >= weights) return "";
  return fmt::format("{} of {} of weights stay on the host, copied for every batch: the GPU has {} free",
                     size(weights - resident), size(weights), size(has));
}

DeviceMemoryPlan plan_device_memory(Backend& backend, const ModelFiles& files, const ModelSpec& whole,
                                    const LoadOptions& options, const RunNeeds& run) {
  DeviceMemoryPlan plan;
  plan.has = backend.memory_left();
  if (plan.has < 0) return {};
  const Communicator *group = options.tensor_group, *stages = options.stages;
  const TensorShard shard = TensorShard::of(whole, group ? group->rank() : 0, group ? group->size() : 1);
  const Stage stage = Stage::of(whole, stages ? stages->rank() : 0, stages ? stages->size() : 1, options.run);
  const ModelSpec spec = shard.part_of(whole);
  add_weights(plan, files, whole, shard, stage, options);
  // Two buffers of captured rows are as wide as the widest point.
  const std::int64_t widest = std::max({(spec.n_heads + 2 * spec.n_kv_heads) * spec.d_head, spec.d_model,
                                        spec.d_mlp, spec.n_experts > 0 ? spec.d_expert : 0});
  plan.token = Transformer::workspace_bytes(spec, 1, backend.device()) +
               ops_own_of_token(spec, options.precision) + 2 * 4 * widest;
  if (!stage.last()) plan.token += DeviceRanks::kInFlight * 4 * spec.d_model;  // on their way
  const std::int64_t others = plan.tables + run.fixed + ops_own(plan) +
                              (run.logits && stage.last() ? 3 * Transformer::logits_bytes(spec) : 0);
  plan.run = others - plan.tables + run.tokens * plan.token;
  const std::int64_t left = plan.has - others - run.tokens * plan.token;
  plan.resident = plan.weights;
  if (plan.weights + plan.largest <= left) return plan;  // one more while a weight is made
  plan.resident = left - 3 * plan.largest;               // two that are on the way, and one that is made
  if (plan.resident < 0) {
    const std::int64_t fit = (plan.has - others - 3 * plan.largest) / plan.token;
    fail_hint(fit > 0 ? fmt::format("--batch-tokens {} would fit, if no text is longer", fit)
                      : "a GPU with more memory, or --device cpu",
              "out of device memory before the start: needs {} (weights {}, of which at least {} at once, "
              "tables {}, "
              "a batch of {} tokens and what goes with it {}), has {}",
              size(plan.tables + plan.run + 3 * plan.largest), size(plan.weights), size(3 * plan.largest),
              size(plan.tables), run.tokens, size(plan.run), size(plan.has));
  }
  backend.limit_weights(plan.resident);
  return plan;
}

}  // namespace sonde
