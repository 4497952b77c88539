#include "models/plan/memory.h"

#include <algorithm>

#include "io/store/open_store.h"
#include "models/capture_link.h"
#include "models/extraction.h"
#include "models/plan/storage.h"
#include "models/tensor_shard.h"
#include "models/tensor_table.h"
#include "models/transformer.h"

namespace sonde {
namespace {

// What a process has besides tensors: the program, its libraries, MPI; on a GPU the driver's context.
constexpr std::int64_t kProgramBytes = std::int64_t{60} << 20;
constexpr std::int64_t kContextBytes = std::int64_t{600} << 20;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t bytes_of_stage(const ModelSpec& spec, const Work& work, const StoreSchema& schema,
                            const MemoryOptions& options, const PlanMesh& mesh, std::int64_t index,
                            std::vector<MemoryKind>& kinds) {
  const ModelSpec share = tensor_share(spec, mesh.tensor);
  std::vector<Site> sites;
  for (const StoreSite& site : schema.sites) sites.push_back(site.site);
  const Stage stage = Stage::of(spec, static_cast<int>(index), static_cast<int>(mesh.pipeline),
                                run_part_of(spec, sites, work.tokens, work.rows));
  const bool first = stage.first(), last = stage.last();
  bool logits = false, scores = false;
  for (const StoreSite& site : schema.sites) {
    logits |= site.site.hook == Hook::logits;
    scores |= info(site.site.hook).cost == Cost::materialises;
  }
  const auto add = [&](const char* name, std::int64_t bytes) {
    if (bytes > 0) kinds.push_back({name, bytes});
  };
  const std::int64_t tokens = work.largest_batch, rows = std::min(tokens, divide_up(work.rows, work.batches)),
                     score_values = work.longest * work.longest * share.n_heads;
  add("weights", weight_bytes(spec, options, mesh.tensor, stage, last && logits));
  if (first) add("embedding table", share.vocab * spec.d_model * options.embed_bytes);
  add("workspace",
      Transformer::workspace_bytes(share, tokens, options.gpu ? DeviceKind::cuda : DeviceKind::cpu));
  if (options.cache_tokens > 0)
    add("keys and values", cache_bytes(share, options.cache_tokens) / spec.n_layers * stage.layers.size());
  if (last && logits) add("logits", Transformer::logits_bytes(share));
  if (scores) add("scores", 4 * score_values);
  if (last || options.gpu)
    add("captured rows", packed_memory(schema, rows, score_values, Transformer::logits_bytes(share) / 4));
  if (options.gpu) {
    if (!last) add("streams on their way", DeviceRanks::kInFlight * 4 * tokens * spec.d_model);
    if (options.precision != Precision::f32)
      add("operands in 16 bits",
          tokens * 2 *
              std::max({spec.d_model, share.d_mlp, share.n_heads * spec.d_head,
                        spec.n_experts > 0 ? spec.experts_per_token * spec.d_expert : 0}));
    add("driver's context", kContextBytes);
  } else {
    if (last) add("staging buffers", open_blocks_memory(schema, open_rows(schema, work, mesh.ranks())));
    add("rows for the writer", rows_under_way(schema, stage, rows));
    // Pages of the file that the loader has read stay with the process until somebody needs the memory.
    const std::int64_t embedding = share.vocab * spec.d_model * options.embed_bytes;
    const std::int64_t looked_at = (last ? spec.n_layers : stage.layers.end) - stage.layers.begin;
    add("model file, mapped", (options.file_bytes - embedding) * looked_at / spec.n_layers +
                                  (first || (last && logits && spec.tied_head) ? embedding : 0) -
                                  (first ? embedding : 0));
    add("program", kProgramBytes);
  }
  return total(kinds);
}

}  // namespace

std::int64_t total(const std::vector<MemoryKind>& kinds) {
  std::int64_t bytes = 0;
  for (const MemoryKind& kind : kinds) bytes += kind.bytes;
  return bytes;
}

ModelSpec tensor_share(const ModelSpec& spec, std::int64_t tensor) {
  ModelSpec share = spec;
  if (tensor == 1) return share;
  share.n_heads = share.n_kv_heads = share.d_mlp = share.vocab = 0;
  for (int rank = 0; rank < static_cast<int>(tensor); ++rank) {  // the most that a rank has
    const ModelSpec part = TensorShard::of(spec, rank, static_cast<int>(tensor)).part_of(spec);
    share.n_heads = std::max(share.n_heads, part.n_heads);
    share.n_kv_heads = std::max(share.n_kv_heads, part.n_kv_heads);
    share.d_mlp = std::max(share.d_mlp, part.d_mlp);
    share.vocab = std::max(share.vocab, part.vocab);
  }
  if (spec.n_experts > 0) share.n_experts = divide_up(spec.n_experts, tensor);
  return share;
}

std::int64_t weight_bytes(const ModelSpec& spec, const MemoryOptions& options, std::int64_t tensor,
                          const Stage& stage, bool head) {
  const ModelSpec share = tensor_share(spec, tensor);
  std::int64_t bytes = 0;
  const auto linear = [&](Precision precision, std::int64_t rows, std::int64_t columns) {
    constexpr double kRow = sizeof(RawRow);
    const double kept = kRow + (options.gpu ? options.kept_bytes * static_cast<double>(columns) : 0),
                 expanded = static_cast<double>(bytes_of_weight(precision, 1, columns));
    return static_cast<std::int64_t>(static_cast<double>(rows) *
                                     (options.kept * kept + (1 - options.kept) * expanded));
  };
  for (const TensorRow& row : name_tensors(share, gguf_names())) {
    if (row.part == Part::embed || row.part == Part::head || !stage.has(row, spec)) continue;
    const std::int64_t values = row.shape[0] * (row.shape.size() > 1 ? row.shape[1] : 1);
    const Precision precision = precision_of(row.part, row.expert, options.precision);
    if (row.part == Part::router)
      bytes += bytes_of_weight(precision, spec.n_experts, spec.d_model);  // every rank routes
    else
      bytes += is_block_linear(row.part) ? linear(precision, row.shape[0], row.shape[1]) : values * 4;
  }
  const Precision of_head = precision_of(Part::head, -1, options.precision);
  return bytes + (head ? linear(of_head, share.vocab, spec.d_model) : 0);
}

std::int64_t embedding_load(const ModelSpec& spec, Precision precision) {
  return spec.vocab * spec.d_model * bytes_of(dtype_of(precision), 1);
}

std::int64_t cache_bytes(const ModelSpec& spec, std::int64_t tokens) {
  return 2 * spec.n_layers * spec.n_kv_heads * spec.d_head * 4 * tokens;
}

std::vector<MemoryKind> rank_memory(const ModelSpec& spec, const Work& work, const StoreSchema& schema,
                                    const MemoryOptions& options, const PlanMesh& mesh) {
  std::vector<MemoryKind> most;
  for (std::int64_t stage = 0; stage < mesh.pipeline; ++stage) {
    std::vector<MemoryKind> kinds;
    if (bytes_of_stage(spec, work, schema, options, mesh, stage, kinds) > total(most))
      most = std::move(kinds);
  }
  return most;
}

}  // namespace sonde
