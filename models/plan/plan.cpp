#include "models/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/store/open_store.h"

namespace sonde {
namespace {

// Time and bytes of one rank for the documents that its data group runs.
struct Parts {
  double share;   // of all documents, for the data group that takes most
  double layers;  // of the layers, for the stage that has most
  double batches;
};

Parts parts_of(const PlanRequest& r, const PlanMesh& mesh) {
  // Groups take whole chunks: the last one may wait for a chunk that another has begun.
  const auto chunks = static_cast<double>(mesh.data > 1 ? chunks_of(r.schema, r.work) : 1);
  Parts parts;
  parts.share = std::ceil(chunks / static_cast<double>(mesh.data)) / chunks;
  const std::int64_t layers = r.spec->n_layers;
  parts.layers = std::ceil(static_cast<double>(layers) / static_cast<double>(mesh.pipeline)) /
                 static_cast<double>(layers);
  parts.batches = std::max(1.0, parts.share * static_cast<double>(r.work.batches));
  return parts;
}

std::vector<Site> sites_of(const StoreSchema& schema) {
  std::vector<Site> sites;
  for (const StoreSite& site : schema.sites) sites.push_back(site.site);
  return sites;
}

// The last one: none has more layers.
Stage fullest_stage(const ModelSpec& spec, const PlanMesh& mesh) {
  const auto stages = static_cast<int>(mesh.pipeline);
  return Stage::of(spec, stages - 1, stages);
}

double forward_seconds(const PlanRequest& r, const PlanMesh& mesh, const Parts& parts) {
  const Machine& m = r.machine;
  const ModelSpec share = tensor_share(*r.spec, mesh.tensor);
  const std::vector<Site> sites = sites_of(r.schema);
  Flops flops = flops_of(share, r.work, sites);
  if (r.spec->n_experts > 0)  // a token's experts are spread over the ranks
    flops.linear = flops_of(*r.spec, r.work, sites).linear / static_cast<double>(mesh.tensor);
  const auto weights =
      static_cast<double>(weight_bytes(*r.spec, r.memory, mesh.tensor, fullest_stage(*r.spec, mesh), false));
  const double products = std::max(flops.linear * parts.layers * parts.share / m.products.value,
                                   parts.batches * weights / m.weights.value);
  const double seconds = products + flops.attention * parts.layers * parts.share / m.attention.value +
                         row_bytes_of(share, r.work, sites) * parts.layers * parts.share / m.rows.value +
                         flops.head * parts.share / m.products.value;
  // A pipeline fills and empties once: stages - 1 batches' time.
  return seconds * (1 + static_cast<double>(mesh.pipeline - 1) / parts.batches);
}

// What a rank sends or receives: two all-reduces a layer and one for the embedding (a ring's 2 (t - 1) / t of
// the bytes), and the residual stream over each border between stages.
double communicate(const PlanRequest& r, const PlanMesh& mesh, const Parts& parts, LinkBytes& links) {
  const Machine& m = r.machine;
  const std::vector<Site> sites = sites_of(r.schema);
  const auto t = static_cast<double>(mesh.tensor);
  const double stream = parts.share * static_cast<double>(r.work.tokens) * 4 *
                        static_cast<double>(r.spec->d_model);  // bytes of [T, D] over all batches
  const double layers = parts.layers * static_cast<double>(layers_needed(*r.spec, sites));
  double seconds = 0;
  if (mesh.tensor > 1) {
    double bytes = (2 * layers + 1) * stream * 2 * (t - 1) / t;
    if (wants_logits(sites))  // column slabs to the rank that writes the row
      bytes += parts.share * static_cast<double>(r.work.rows) * 4 * static_cast<double>(r.spec->vocab) *
               (t - 1) / t / t;
    const bool inside = mesh.tensor <= m.ranks_per_node;
    const double messages = parts.batches * (2 * layers + 1) * 2 * (t - 1);
    (inside ? links.inside : links.between) += bytes;
    seconds += bytes / (inside ? m.link : m.network).value +
               messages * (inside ? m.link_latency : m.network_latency).value;
  }
  if (mesh.pipeline > 1) {
    const bool inside = mesh.tensor * mesh.pipeline <= m.ranks_per_node;
    // The rank that writes receives the stream and the other stages' captured rows.
    const auto stages = static_cast<double>(mesh.pipeline);
    const double bytes =
        stream + captured_bytes_of(*r.spec, r.work, sites) * parts.share * (stages - 1) / stages;
    (inside ? links.inside : links.between) += bytes;
    seconds += bytes / (inside ? m.link : m.network).value +
               parts.batches * (inside ? m.link_latency : m.network_latency).value;
  }
  return seconds;
}

}  // namespace

MeshPlan plan_mesh(const PlanRequest& r, const PlanMesh& mesh) {
  const Machine& m = r.machine;
  const Parts parts = parts_of(r, mesh);
  MeshPlan plan;
  plan.mesh = mesh;
  plan.memory = rank_memory(*r.spec, r.work, r.schema, r.memory, mesh);
  // A disk that is slower than the forward fills all buffers.
  const std::int64_t buffers =
      m.gpu ? 0
            : store_memory(r.schema) -
                  open_blocks_memory(r.schema, shard_rows_of(r.schema, r.work, mesh.ranks()));
  plan.fits = plan.bytes() + buffers <= m.memory;

  // Of a pipeline's stages the last one writes.
  const auto replicas = static_cast<double>(mesh.data), group = static_cast<double>(mesh.tensor);
  const auto prepared = static_cast<double>(weight_bytes(
      *r.spec, r.memory, mesh.tensor, fullest_stage(*r.spec, mesh), wants_logits(sites_of(r.schema))));
  PhaseTimes& s = plan.seconds;
  s.start = m.start.value;
  // Every data group reads the model once.
  s.load = std::max(prepared / m.load.value, r.model_bytes * replicas / m.filesystem.value);
  s.forward = forward_seconds(r, mesh, parts);
  s.communication = communicate(r, mesh, parts, plan.links);
  s.capture = captured_bytes_of(*r.spec, r.work, sites_of(r.schema)) * parts.share / group / m.capture.value;
  const double store = plan_store(r.schema, r.work, mesh.ranks(), 8).total();
  s.write = std::max(store * parts.share / group / m.disk.value, store / m.filesystem.value);
  plan.tokens_per_second = static_cast<double>(r.work.tokens) / s.total();
  return plan;
}

std::vector<MeshPlan> plan_meshes(const PlanRequest& r) {
  std::vector<MeshPlan> plans;
  const std::int64_t ranks = r.machine.ranks();
  const std::int64_t most = std::min(r.machine.ranks_per_node, r.spec->n_heads);  // groups stay inside a node
  for (std::int64_t t = 1; t <= std::max<std::int64_t>(most, r.tensor.value_or(1)); ++t)
    for (std::int64_t p = 1; p <= std::min(r.spec->n_layers, ranks / t); ++p) {
      if (ranks % (t * p) != 0 || (r.tensor && *r.tensor != t) || (r.pipeline && *r.pipeline != p)) continue;
      plans.push_back(plan_mesh(r, {ranks / (t * p), t, p}));
    }
  // Times within some 2 % are equal (a disk that limits all meshes alike): then the least computing wins.
  const auto bucket = [](const MeshPlan& p) { return std::floor(std::log(p.seconds.total()) * 50); };
  std::ranges::stable_sort(plans, [&](const MeshPlan& a, const MeshPlan& b) {
    if (a.fits != b.fits) return a.fits;
    if (!a.fits) return a.bytes() < b.bytes();
    return std::pair(bucket(a), a.seconds.compute()) < std::pair(bucket(b), b.seconds.compute());
  });
  return plans;
}

std::vector<std::string> what_would_fit(const PlanRequest& r) {
  std::vector<std::string> ways;
  const auto best_of = [](PlanRequest changed) {
    auto plans = plan_meshes(changed);
    return plans.empty() || !plans[0].fits ? std::optional<MeshPlan>() : plans[0];
  };
  const auto mesh_text = [](const PlanMesh& m) {
    return fmt::format("data {} x tensor {} x pipeline {}", m.data, m.tensor, m.pipeline);
  };
  PlanRequest free = r;
  free.tensor.reset();
  free.pipeline.reset();
  if (r.tensor || r.pipeline)
    if (const auto plan = best_of(free)) ways.push_back("another mesh: " + mesh_text(plan->mesh));
  constexpr std::int64_t kMostNodes = 1024;
  for (PlanRequest more = free;
       ways.empty() && more.machine.nodes < std::min(kMostNodes, r.spec->n_layers);) {
    ++more.machine.nodes;
    if (const auto plan = best_of(more))
      ways.push_back(fmt::format("{} nodes ({})", more.machine.nodes, mesh_text(plan->mesh)));
  }
  const std::vector<MeshPlan> plans = plan_meshes(r);
  if (!plans.empty())  // none fits: the smallest comes first
    ways.push_back(fmt::format("{:.1f} GB {} ({})",
                               std::ceil(static_cast<double>(plans[0].bytes()) * 1e-8) / 10,
                               r.machine.gpu ? "a GPU" : "a rank", mesh_text(plans[0].mesh)));
  if (r.memory.precision == Precision::f32) {
    PlanRequest half = free;
    half.memory.precision = Precision::bf16;
    if (const auto plan = best_of(half))
      ways.push_back(fmt::format("--dtype bf16 ({})", mesh_text(plan->mesh)));
  }
  for (std::int64_t tokens = r.work.largest_batch / 2; tokens >= r.work.longest && tokens > 0; tokens /= 2) {
    PlanRequest small = free;
    small.work.largest_batch = tokens;
    if (const auto plan = best_of(small)) {
      ways.push_back(fmt::format("--batch-tokens {} ({})", tokens, mesh_text(plan->mesh)));
      break;
    }
  }
  return ways;
}

}  // namespace sonde
