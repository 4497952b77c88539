#include "models/plan/work.h"

#include <algorithm>
#include <map>

#include "models/layer_macs.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr double kMacFlops = 2;

// Rows of a document of so many tokens, cut into contexts or not.
std::int64_t rows_of(std::int64_t length, const ExtractionOptions& options) {
  std::int64_t rows = 0;
  for (const std::int32_t position : options.tokens.select(length, "of the plan"))
    rows += position >= options.skip_first;
  return rows;
}

}  // namespace

double Work::keys_seen(std::int64_t window) const {
  double keys = 0;
  for (const Sequences& s : sequences) {
    const auto n = static_cast<double>(s.tokens),
               w = static_cast<double>(window > 0 ? std::min(window, s.tokens) : s.tokens);
    keys += static_cast<double>(s.count) * (w * (w + 1) / 2 + (n - w) * w);
  }
  return keys;
}

double Work::keys_multiplied(std::int64_t window, AttentionTile tile) const {
  if (tile.rows == 1 && tile.keys == 1) return keys_seen(window);
  double keys = 0;
  for (const Sequences& s : sequences) {
    double halves = 0;
    for (std::int64_t row = 0; row < s.tokens; row += tile.rows) {
      const std::int64_t end = std::min(row + tile.rows, s.tokens);
      const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, row - window + 1) : 0;
      const std::int64_t begin = first / tile.keys * tile.keys;  // whole panels
      const std::int64_t whole = (end - begin + tile.keys - 1) / tile.keys * tile.keys;
      halves += static_cast<double>(end - row) * static_cast<double>(whole + end - begin) / 2;
    }
    keys += static_cast<double>(s.count) * halves;
  }
  return keys;
}

Work work_of(const ExtractionPlan& plan, const Inputs& inputs) {
  Work work;
  std::map<std::int64_t, std::int64_t> lengths;
  const auto first = plan.batch_sequence[static_cast<std::size_t>(plan.first_batch)],
             end = plan.batch_sequence[static_cast<std::size_t>(plan.end_batch)];
  for (std::int64_t s = first; s < end; ++s) {
    const Sequence& sequence = plan.sequences[static_cast<std::size_t>(s)];
    ++lengths[sequence.end - sequence.begin];
  }
  for (const auto& [tokens, count] : lengths) work.sequences.push_back({tokens, count});
  work.documents = inputs.size();
  work.tokens = plan.tokens;
  work.rows = plan.rows();
  work.batches = plan.end_batch - plan.first_batch;
  work.longest = plan.longest;
  work.largest_batch = plan.largest_batch;
  return work;
}

Work uniform_work(std::int64_t tokens, std::int64_t document_tokens, const ModelSpec& spec,
                  const ExtractionOptions& options) {
  const TokenSelector::Kind kind = options.tokens.kind();
  if (kind == TokenSelector::Kind::mask || kind == TokenSelector::Kind::span)
    throw UsageError(fmt::format("--select {} reads a column", options.tokens.text()),
                     "give the documents: --texts FILE");
  const std::int64_t context = options.context > 0 ? options.context : spec.context;
  Work work;
  std::map<std::int64_t, std::int64_t> lengths;
  const auto add = [&](std::int64_t length, std::int64_t count) {
    if (length == 0 || count == 0) return;
    if (length / context > 0) lengths[context] += length / context * count;
    if (length % context > 0) lengths[length % context] += count;
    work.documents += count;
    work.rows += rows_of(length, options) * count;
  };
  add(document_tokens, tokens / document_tokens);
  add(tokens % document_tokens, 1);
  work.tokens = tokens;
  for (const auto& [length, count] : lengths) {
    work.sequences.push_back({length, count});
    const std::int64_t in_a_batch = std::max<std::int64_t>(1, options.batch_tokens / length);
    work.batches += (count + in_a_batch - 1) / in_a_batch;
    work.longest = std::max(work.longest, length);
    work.largest_batch = std::max(work.largest_batch, std::min(in_a_batch, count) * length);
  }
  if (work.rows == 0) fail("no token is recorded: --select {} of {} tokens", options.tokens.text(), tokens);
  return work;
}

std::int64_t layers_needed(const ModelSpec& spec, std::span<const Site> sites) {
  std::int64_t layers = 0;
  for (const Site site : sites)
    layers = std::max<std::int64_t>(layers, site.hook >= Hook::ln_final_scale ? spec.n_layers
                                            : site.hook < Hook::resid_pre     ? 0
                                                                              : site.layer + 1);
  return layers;
}

bool wants_logits(std::span<const Site> sites) {
  return std::ranges::any_of(sites, [](Site site) { return site.hook == Hook::logits; });
}

bool wants_scores(std::span<const Site> sites) {
  return std::ranges::any_of(sites, [](Site site) { return info(site.hook).cost == Cost::materialises; });
}

RunPart run_part_of(const ModelSpec& spec, std::span<const Site> sites, std::int64_t tokens,
                    std::int64_t rows) {
  return {layers_needed(spec, sites),
          static_cast<double>(rows) / static_cast<double>(std::max<std::int64_t>(1, tokens)),
          wants_logits(sites)};
}

double attention_flops(const ModelSpec& spec, double keys) {
  return 2 * kMacFlops * static_cast<double>(spec.n_heads * spec.d_head) * keys;
}

Flops flops_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites, AttentionTile tile,
               Share range) {
  Flops flops;
  const std::int64_t layers = layers_needed(spec, sites);
  const std::vector<LayerMacs> macs = layer_macs(spec);
  const auto tokens = static_cast<double>(work.tokens), rows = static_cast<double>(work.rows);
  std::map<std::int64_t, double> keys;  // by window
  for (std::int64_t l = range.begin; l < range.end; ++l) {
    const LayerMacs& layer = macs[static_cast<std::size_t>(l)];
    flops.linear += kMacFlops * (static_cast<double>(layer.attends) * tokens +
                                 static_cast<double>(layer.tail) * (l + 1 < layers ? tokens : rows));
    const std::int64_t window = spec.window(static_cast<int>(l));
    const auto [at, added] = keys.try_emplace(window);
    if (added) at->second = work.keys_multiplied(window, tile);
    flops.attention += attention_flops(spec, at->second);
  }
  if (wants_logits(sites) && range.end == layers)
    flops.head = kMacFlops * rows * static_cast<double>(head_macs(spec));
  return flops;
}

Flops flops_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites, AttentionTile tile) {
  return flops_of(spec, work, sites, tile, {0, layers_needed(spec, sites)});
}

double row_bytes_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites) {
  const double d = static_cast<double>(spec.d_model),
               heads = static_cast<double>((spec.n_heads + spec.n_kv_heads) * spec.d_head),
               f = spec.n_experts > 0 ? static_cast<double>(spec.experts_per_token * spec.d_expert)
                                      : static_cast<double>(spec.d_mlp);
  // A norm reads and writes D, the one after attention reads and writes the stream, too; the MLP's sum reads
  // two.
  double values = 2 * d + 4 * d + 3 * d + (spec.gated_mlp ? 3 : 2) * f;
  if (!spec.learned_positions) values += 2 * heads;
  if (spec.qk_norm != QkNorm::none) values += 2 * heads;
  if (spec.post_norms) values += 4 * d;
  if (spec.n_experts > 0) values += 5 * d * static_cast<double>(spec.experts_per_token);  // gather, scatter
  return 4 * static_cast<double>(work.tokens) *
         (values * static_cast<double>(layers_needed(spec, sites)) + 2 * d);
}

double captured_bytes_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites) {
  double bytes = 0;
  for (const Site site : sites) {
    double width = 4;
    for (const std::int64_t n : row_shape(site.hook, spec.hook_sizes(work.longest)))
      width *= static_cast<double>(n);
    bytes += width * static_cast<double>(work.rows);
  }
  return bytes;
}

}  // namespace sonde
