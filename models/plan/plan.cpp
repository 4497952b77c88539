#include "models/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/store/open_store.h"

namespace sonde {
namespace {

// Each rank of a tensor group has some of the columns (TensorShard::units).
bool is_sharded(RowShape shape) {
  return shape == RowShape::HE || shape == RowShape::HS || shape == RowShape::KE || shape == RowShape::F ||
         shape == RowShape::V;
}

std::vector<Site> sites_of(const StoreSchema& schema) {
  std::vector<Site> sites;
  for (const StoreSite& site : schema.sites) sites.push_back(site.site);
  return sites;
}

// A rank of one stage, for the documents that its data group runs.
class StagePlan {
 public:
  StagePlan(const PlanRequest& request, const PlanMesh& mesh, std::int64_t index)
      : r_(request), m_(request.machine), mesh_(mesh), sites_(sites_of(request.schema)) {
    // Groups take whole chunks: the last one may wait for a chunk that another has begun.
    const auto chunks = static_cast<double>(mesh.data > 1 ? chunks_of(r_.schema, r_.work) : 1);
    share_ = std::ceil(chunks / static_cast<double>(mesh.data)) / chunks;
    batches_ = std::max(1.0, share_ * static_cast<double>(r_.work.batches));
    stage_ = Stage::of(*r_.spec, static_cast<int>(index), static_cast<int>(mesh.pipeline),
                       run_part_of(*r_.spec, sites_, r_.work.tokens, r_.work.rows));
    forward_ = forward_seconds();
    communication_ = communicate();
    if (stage_.last())  // the writer's: the rows of all stages
      capture_ = captured_bytes_of(*r_.spec, r_.work, sites_) * share_ / static_cast<double>(mesh.tensor) /
                 m_.capture.value;
  }

  double seconds() const { return forward_ + communication_ + capture_; }
  double forward() const { return forward_; }
  double communication() const { return communication_; }
  double capture() const { return capture_; }
  double batches() const { return batches_; }
  double share() const { return share_; }
  const LinkBytes& links() const { return links_; }
  double load_bytes() const {
    const std::int64_t looked_at =
        stage_.first() ? embedding_load(tensor_share(*r_.spec, mesh_.tensor), r_.memory.precision) : 0;
    return static_cast<double>(looked_at + weight_bytes(*r_.spec, r_.memory, mesh_.tensor, stage_,
                                                        stage_.last() && wants_logits(sites_)));
  }

 private:
  double forward_seconds() const {
    const ModelSpec share = tensor_share(*r_.spec, mesh_.tensor);
    const Flops own = flops_of(share, r_.work, sites_, m_.tile, stage_.layers);
    double linear = own.linear;
    if (r_.spec->n_experts > 0)  // a token's experts are spread over the ranks
      linear = flops_of(*r_.spec, r_.work, sites_, m_.tile, stage_.layers).linear /
               static_cast<double>(mesh_.tensor);
    const auto weights = static_cast<double>(weight_bytes(*r_.spec, r_.memory, mesh_.tensor, stage_, false));
    const double products =
        std::max(linear * share_ / m_.products.value, batches_ * weights / m_.weights.value);
    const double queries =
        static_cast<double>(r_.work.tokens * share.n_heads) * static_cast<double>(stage_.layers.size());
    return products + share_ * (own.head / m_.products.value + own.attention / m_.attention.value +
                                queries * m_.attention_query.value +
                                row_bytes_of(share, r_.work, sites_) * part_of_layers() / m_.rows.value);
  }

  // Of the sites of this stage, or of all others: float32 bytes of all rows.
  double captured_bytes(bool here, bool sharded_only = false) const {
    std::vector<Site> some;
    for (const Site site : sites_)
      if (stage_of(site) == here && (!sharded_only || is_sharded(info(site.hook).shape)))
        some.push_back(site);
    return captured_bytes_of(*r_.spec, r_.work, some) * share_;
  }
  bool stage_of(Site site) const {
    if (per_layer(site.hook)) return stage_.has(site.layer);
    return site.hook < Hook::resid_pre ? stage_.first() : stage_.last();
  }

  // Rows that are summed over a tensor group: twice a layer, once where both parts travel as one, and once
  // for the embedding. Behind the last layer's attention there are recorded rows alone.
  double summed_rows() const {
    const ModelSpec& s = *r_.spec;
    const bool together = s.order == BlockOrder::parallel && !s.post_norms;
    const std::int64_t last = layers_needed(s, sites_) - 1;
    double rows = stage_.first() ? static_cast<double>(r_.work.tokens) : 0;
    for (std::int64_t l = stage_.layers.begin; l < stage_.layers.end; ++l) {
      std::int64_t sums = together ? 1 : 2;
      for (const Site site : sites_)  // a capture of one part has a sum of its own
        if (together && site.layer == l && (site.hook == Hook::attn_out || site.hook == Hook::mlp_out))
          ++sums;
      rows += static_cast<double>(sums * (l == last ? r_.work.rows : r_.work.tokens));
    }
    return share_ * rows;
  }

  // What a rank sends or receives: sums and gathered columns within its tensor group (a ring's 2 (t - 1) / t
  // of a sum's bytes), and the residual stream over each border between stages.
  double communicate() {
    const auto t = static_cast<double>(mesh_.tensor), row = 4 * static_cast<double>(r_.spec->d_model);
    double seconds = 0;
    if (mesh_.tensor > 1) {
      const double sums = 2 * static_cast<double>(stage_.layers.size()) + (stage_.first() ? 1 : 0);
      // Columns go to the rank that writes the row, between devices to all.
      links_.tensor =
          summed_rows() * row * 2 * (t - 1) / t + captured_bytes(true, true) * (t - 1) / t / (m_.gpu ? 1 : t);
      seconds += over(mesh_.tensor, links_.tensor, batches_ * sums * 2 * (t - 1));
    }
    if (mesh_.pipeline > 1) {
      // The stream, and beside it captured rows: a stage sends its own, the rank that writes receives all
      // others'. Of a group each rank writes its share of the batches.
      links_.pipeline =
          share_ * static_cast<double>(r_.work.tokens) * row + captured_bytes(!stage_.last()) / t;
      seconds += over(mesh_.tensor * mesh_.pipeline, links_.pipeline, batches_);
    }
    return seconds;
  }

  // Seconds of so many bytes and messages among ranks that are neighbours.
  double over(std::int64_t neighbours, double bytes, double messages) {
    const bool inside = neighbours <= m_.ranks_per_node;
    (inside ? links_.inside : links_.between) += bytes;
    return bytes / (inside ? m_.link : m_.network).value +
           messages * (inside ? m_.link_latency : m_.network_latency).value;
  }

  double part_of_layers() const {
    const auto all = static_cast<double>(std::max<std::int64_t>(1, layers_needed(*r_.spec, sites_)));
    return mesh_.pipeline == 1 ? 1 : static_cast<double>(stage_.layers.size()) / all;
  }

  const PlanRequest& r_;
  const Machine& m_;
  const PlanMesh mesh_;
  const std::vector<Site> sites_;
  double share_ = 1;  // of all documents, for the data group that takes most
  double batches_ = 1;
  Stage stage_;
  double forward_ = 0, communication_ = 0, capture_ = 0;
  LinkBytes links_;
};

}  // namespace

MeshPlan plan_mesh(const PlanRequest& r, const PlanMesh& mesh) {
  const Machine& m = r.machine;
  MeshPlan plan;
  plan.mesh = mesh;
  plan.memory = rank_memory(*r.spec, r.work, r.schema, r.memory, mesh);
  // A disk that is slower than the forward fills all buffers.
  const std::int64_t buffers =
      m.gpu
          ? 0
          : store_memory(r.schema) - open_blocks_memory(r.schema, open_rows(r.schema, r.work, mesh.ranks()));
  plan.fits = plan.bytes() + buffers <= m.memory;

  // The slowest stage sets the pace; before its first batch and behind its last the others have one each.
  std::vector<StagePlan> stages;
  for (std::int64_t i = 0; i < mesh.pipeline; ++i) stages.emplace_back(r, mesh, i);
  const StagePlan& slowest = *std::ranges::max_element(stages, {}, &StagePlan::seconds);
  double others = 0, loaded = 0;
  for (const StagePlan& stage : stages) {
    if (&stage != &slowest) others += stage.seconds() / stage.batches();
    loaded = std::max(loaded, stage.load_bytes());
    plan.links.inside = std::max(plan.links.inside, stage.links().inside);
    plan.links.between = std::max(plan.links.between, stage.links().between);
    plan.links.tensor = std::max(plan.links.tensor, stage.links().tensor);
    plan.links.pipeline = std::max(plan.links.pipeline, stage.links().pipeline);
  }
  const double share = slowest.share(), group = static_cast<double>(mesh.tensor);
  PhaseTimes& s = plan.seconds;
  s.start = m.start.value;
  // Every data group reads the model once.
  s.load =
      std::max(loaded / m.load.value, r.model_bytes * static_cast<double>(mesh.data) / m.filesystem.value);
  s.forward = slowest.forward();
  s.communication = slowest.communication() + others;  // waiting for other stages included
  s.capture = slowest.capture();
  const double store = plan_store(r.schema, r.work, mesh.ranks(), 8).total();
  // On average half of the open blocks is left. Then come the index and the lists, and ranks that are not
  // ready at the same time.
  s.finish = (mesh.ranks() > 1 ? 0.15 : 0.05) +
             static_cast<double>(open_blocks_memory(r.schema, open_rows(r.schema, r.work, mesh.ranks()))) /
                 2 / group / m.disk.value;
  s.write = std::max(store * share / group / m.disk.value, store / m.filesystem.value);
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
