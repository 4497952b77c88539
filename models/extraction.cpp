#include "models/extraction.h"

#include <algorithm>
#include <limits>

#include "models/batch_arrays.h"
#include "models/capture_link.h"
#include "models/transformer.h"
#include "runtime/error.h"
#include "runtime/stop_signal.h"

namespace sonde {
namespace {

constexpr std::string_view kOverflowNames[] = {"error", "truncate", "split"};

// Tokens of a document that run: all, or up to the context, or an error.
std::int64_t runnable_length(const std::string& id, std::int64_t length, std::int64_t context,
                             Overflow overflow) {
  if (length <= context || overflow == Overflow::split) return length;
  if (overflow == Overflow::truncate) return context;
  fail_hint(
      "--overflow truncate keeps its beginning, --overflow split runs it in pieces, --context raises the "
      "limit",
      "document {}: found {} tokens, expected at most {}", id, length, context);
}

void plan_sequences(ExtractionPlan& plan, const ModelSpec& spec, const Inputs& inputs,
                    const ExtractionOptions& options) {
  const std::int64_t context = options.context > 0 ? options.context : spec.context;
  std::int64_t left = options.max_tokens > 0 ? options.max_tokens : std::numeric_limits<std::int64_t>::max();
  std::int64_t row = 0;
  for (std::int64_t d = 0; d < inputs.size() && left > 0; ++d) {
    const std::string& id = inputs.documents.ids[static_cast<std::size_t>(d)];
    if (inputs.length(d) == 0 && !options.skip_empty)
      fail_hint("--skip-empty leaves such documents out", "document {} has no tokens", id);
    const std::int64_t length =
        std::min(left, runnable_length(id, inputs.length(d), context, options.overflow));
    left -= length;
    const auto chosen = inputs.select(options.tokens, d, length);
    for (std::int64_t begin = 0; begin < length; begin += context) {
      const std::int64_t end = std::min(length, begin + context);
      const auto rows =
          static_cast<std::int64_t>(recorded_tokens(chosen, begin, end, options.skip_first).size());
      if (rows == 0) continue;
      plan.sequences.push_back({d, begin, end, length, row});
      plan.longest = std::max(plan.longest, end - begin);
      row += rows;
    }
  }
  if (row == 0)
    fail("no token of the inputs is recorded: {} documents, --tokens {}", inputs.size(),
         options.tokens.text());
  plan.sequences.push_back({-1, 0, 0, 0, row});  // sentinel: total rows
}

void plan_batches(ExtractionPlan& plan, const ExtractionOptions& options) {
  const auto n = static_cast<std::int64_t>(plan.sequences.size()) - 1;
  std::int64_t tokens = 0;
  const auto close = [&](std::int64_t next) {
    plan.batch_sequence.push_back(next);
    plan.batch_row.push_back(plan.sequences[static_cast<std::size_t>(next)].first_row);
    plan.largest_batch = std::max(plan.largest_batch, tokens);
    tokens = 0;
  };
  close(0);
  for (std::int64_t s = 0; s < n; ++s) {
    const Sequence& sequence = plan.sequences[static_cast<std::size_t>(s)];
    const std::int64_t length = sequence.end - sequence.begin;
    if (tokens > 0 && tokens + length > options.batch_tokens) close(s);
    tokens += length;
  }
  close(n);
}

}  // namespace

std::string_view name(Overflow overflow) { return kOverflowNames[static_cast<int>(overflow)]; }

Overflow parse_overflow(std::string_view wanted) {
  for (int i = 0; i < 3; ++i)
    if (kOverflowNames[i] == wanted) return static_cast<Overflow>(i);
  throw UsageError(fmt::format("--overflow: found '{}', expected error, truncate or split", wanted));
}

ExtractionPlan plan_extraction(const ModelSpec& spec, const Inputs& inputs,
                               const ExtractionOptions& options) {
  ExtractionPlan plan;
  plan_sequences(plan, spec, inputs, options);
  plan_batches(plan, options);
  const std::int64_t batches = static_cast<std::int64_t>(plan.batch_row.size()) - 1;
  plan.first_batch = batches * options.part / options.parts;
  plan.end_batch = batches * (options.part + 1) / options.parts;
  for (std::int64_t s = plan.batch_sequence[static_cast<std::size_t>(plan.first_batch)];
       s < plan.batch_sequence[static_cast<std::size_t>(plan.end_batch)]; ++s)
    plan.tokens +=
        plan.sequences[static_cast<std::size_t>(s)].end - plan.sequences[static_cast<std::size_t>(s)].begin;
  return plan;
}

void check_edits(std::span<const Edit> edits, const ModelSpec& spec, const Inputs& inputs,
                 const ExtractionPlan& plan) {
  std::int64_t last = -1;
  for (const Sequence& s : plan.sequences) {
    if (s.document == last || s.document < 0) continue;
    last = s.document;
    check_edits(edits, spec.hook_sizes(),
                {s.document, inputs.documents.ids[static_cast<std::size_t>(s.document)], s.document_length,
                 s.begin == 0 && s.end == s.document_length ? s.document_length : 0});
  }
}

StoreSchema make_schema(const ModelSpec& spec, const Inputs& inputs, const ExtractionOptions& options,
                        const ExtractionPlan& plan, const RunIdentity& run) {
  StoreSchema schema;
  const HookSizes sizes = spec.hook_sizes(plan.longest);
  for (Site site : options.sites) schema.sites.push_back({site, name(site), row_shape(site.hook, sizes)});
  schema.dtype = options.store;
  schema.shard_rows = options.shard_rows;
  schema.total_rows = plan.rows();
  schema.n_batches = plan.end_batch - plan.first_batch;

  Json& id = schema.identity;
  id["model"] = {{"fingerprint", run.model_fingerprint}, {"spec", spec.to_json()}};
  id["tokenizer"] =
      run.tokenizer_fingerprint.empty() ? Json(nullptr) : Json{{"fingerprint", run.tokenizer_fingerprint}};
  id["inputs"] = {{"documents", inputs.size()},
                  {"tokens", inputs.documents.starts.back()},
                  {"sha256", inputs.fingerprint}};
  id["compute"] = {{"dtype", run.dtype}, {"path", run.compute_path}, {"weights", name(run.weights)}};
  Json& o = id["options"];
  o["tokens"] = options.tokens.text();
  o["context"] = options.context > 0 ? options.context : spec.context;
  o["overflow"] = name(options.overflow);
  o["max_tokens"] = options.max_tokens;
  o["skip_first"] = options.skip_first;
  o["skip_empty"] = options.skip_empty;
  o["batch_tokens"] = options.batch_tokens;
  id["edits"] = run.edits;
  id["ignored_config_keys"] = run.ignored.allowed;
  if (options.parts > 1) id["part"] = {{"index", options.part}, {"of", options.parts}};
  schema.notes["model_name"] = run.model_name;
  return schema;
}

std::vector<StoreDocument> store_documents(const Inputs& inputs) {
  std::vector<StoreDocument> documents;
  for (std::int64_t d = 0; d < inputs.size(); ++d)
    documents.push_back({inputs.documents.ids[static_cast<std::size_t>(d)], inputs.length(d)});
  return documents;
}

RunNeeds run_needs(const ModelSpec& spec, const ExtractionPlan& plan, std::span<const Site> sites) {
  RunNeeds run{.tokens = plan.largest_batch};
  for (const Site site : sites) {
    // Scores, and the two buffers that they are captured through.
    if (info(site.hook).cost == Cost::materialises)
      run.fixed = 3 * plan.longest * plan.longest * spec.n_heads * 4;
    run.logits |= site.hook == Hook::logits;
  }
  return run;
}

std::int64_t packed_memory(const StoreSchema& schema, std::int64_t rows, std::int64_t scores,
                           std::int64_t logits) {
  std::int64_t values = 0;
  for (const StoreSite& site : schema.sites)
    values = std::max(values, info(site.site.hook).cost == Cost::materialises ? scores
                              : site.site.hook == Hook::logits                ? logits
                                                                              : rows * site.width());
  return values * info(schema.dtype).block_bytes;
}

std::int64_t run_memory(const ModelSpec& spec, const Stage& stage, const ExtractionPlan& plan,
                        const StoreSchema& schema) {
  std::int64_t rows = 0;  // of a batch
  for (std::size_t b = 1; b < plan.batch_row.size(); ++b)
    rows = std::max(rows, plan.batch_row[b] - plan.batch_row[b - 1]);
  const std::int64_t bytes = Transformer::workspace_bytes(spec, plan.largest_batch, DeviceKind::cpu) +
                             (stage.last() ? store_memory(schema) : rows_under_way(schema, stage, rows));
  const std::int64_t scores = plan.longest * plan.longest * spec.n_heads,
                     logits = stage.last() ? Transformer::logits_bytes(spec) / 4 : 0;
  bool any_scores = false, any_logits = false;
  for (const StoreSite& site : schema.sites) {
    any_scores |= info(site.site.hook).cost == Cost::materialises;
    any_logits |= site.site.hook == Hook::logits;
  }
  const std::int64_t packed = stage.last() ? packed_memory(schema, rows, scores, logits) : 0;
  return bytes + packed + 4 * (any_scores ? scores : 0) + 4 * (any_logits ? logits : 0);
}

std::int64_t batch_tokens(const ExtractionPlan& plan, std::int64_t batch) {
  std::int64_t tokens = 0;
  for (std::int64_t s = plan.batch_sequence[static_cast<std::size_t>(batch)];
       s < plan.batch_sequence[static_cast<std::size_t>(batch) + 1]; ++s)
    tokens +=
        plan.sequences[static_cast<std::size_t>(s)].end - plan.sequences[static_cast<std::size_t>(s)].begin;
  return tokens;
}

Outcome run_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                       const ExtractionOptions& options, const ExtractionPlan& plan, std::vector<Edit> edits,
                       StoreWriter& writer, const std::function<void(const Progress&)>& report) {
  Hooks hooks(backend, model.spec.n_layers);
  hooks.capture(options.sites, writer);
  for (Edit& edit : edits) hooks.edit(std::move(edit), model.spec.hook_sizes());

  const std::int64_t first = plan.first_batch + writer.first_batch();
  const auto row_of = [&](std::int64_t batch) { return plan.batch_row[static_cast<std::size_t>(batch)]; };

  Progress progress{0, 0, 0};
  for (std::int64_t b = first; b < plan.end_batch; ++b) progress.tokens_total += batch_tokens(plan, b);
  if (first < plan.end_batch) {
    Transformer transformer(model, backend, plan.largest_batch);
    BatchArrays arrays;
    for (std::int64_t b = first; b < plan.end_batch; ++b) {
      arrays.fill(plan, inputs, options, b);
      writer.begin_batch(b - plan.first_batch, row_of(b) - row_of(plan.first_batch), arrays.rows());
      transformer.forward(arrays.batch(), hooks);
      writer.end_batch();
      progress.tokens_done += batch_tokens(plan, b);
      progress.bytes_written = writer.bytes_written();
      report(progress);
      if (stop_requested() && b + 1 < plan.end_batch) {
        writer.close();
        return Outcome::stopped;
      }
    }
  }
  writer.finish();
  return Outcome::complete;
}

}  // namespace sonde
