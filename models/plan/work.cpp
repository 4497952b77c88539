#include "models/plan/work.h"

#include <algorithm>
#include <map>

#include "models/tensor_table.h"
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

// Multiply-adds of a layer for one token: what all tokens need, and what only recorded ones need in the last
// layer.
struct LayerMacs {
  double all = 0, tail = 0;
};
std::vector<LayerMacs> layer_macs(const ModelSpec& spec) {
  std::vector<LayerMacs> layers(static_cast<std::size_t>(spec.n_layers));
  for (const TensorRow& row : name_tensors(spec, gguf_names())) {
    if (row.layer < 0 || !(is_block_linear(row.part) || row.part == Part::router)) continue;
    if (row.expert >= spec.experts_per_token) continue;  // a token goes to so many of equal experts
    LayerMacs& layer = layers[static_cast<std::size_t>(row.layer)];
    const bool attends =
        row.part == Part::q || row.part == Part::k || row.part == Part::v || row.part == Part::qkv;
    (attends ? layer.all : layer.tail) +=
        static_cast<double>(row.shape[0]) * static_cast<double>(row.shape[1]);
  }
  return layers;
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

Flops flops_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites) {
  Flops flops;
  const std::int64_t layers = layers_needed(spec, sites);
  const std::vector<LayerMacs> macs = layer_macs(spec);
  const auto tokens = static_cast<double>(work.tokens), rows = static_cast<double>(work.rows);
  for (std::int64_t l = 0; l < layers; ++l) {
    const LayerMacs& layer = macs[static_cast<std::size_t>(l)];
    flops.linear += kMacFlops * (layer.all * tokens + layer.tail * (l + 1 < layers ? tokens : rows));
    flops.attention += 2 * kMacFlops * static_cast<double>(spec.n_heads * spec.d_head) *
                       work.keys_seen(spec.window(static_cast<int>(l)));
  }
  if (wants_logits(sites))
    flops.head = kMacFlops * rows * static_cast<double>(spec.d_model) * static_cast<double>(spec.vocab);
  return flops;
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
