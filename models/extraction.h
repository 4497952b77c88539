// From documents to a store: cut into contexts, batched, run, recorded. The plan depends on documents and
// options alone, never on threads, kills or resume.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/activation_store.h"
#include "models/hooks.h"
#include "models/inputs.h"
#include "models/memory_plan.h"
#include "models/model.h"

namespace sonde {

enum class Overflow { error, truncate, split };
Overflow parse_overflow(std::string_view name);
std::string_view name(Overflow overflow);

struct ExtractionOptions {
  std::vector<Site> sites;
  TokenSelector tokens;
  DType store = DType::f32;
  std::int64_t shard_rows = 0;  // 0: about 1 GiB a shard
  std::int64_t context = 0;     // tokens a sequence may have; 0: the model's
  Overflow overflow = Overflow::error;
  std::int64_t max_tokens = 0;       // stop after so many tokens of the inputs, the last document cut; 0: all
  std::int64_t skip_first = 0;       // first tokens of each document that are not recorded
  std::int64_t batch_tokens = 2048;  // budget of a batch; a longer sequence is a batch of its own
  bool skip_empty = false;           // documents without tokens record nothing instead of stopping
  std::int64_t part = 0, parts = 1;  // this process's share of the batches
};

// A stretch of a document that runs as one sequence.
struct Sequence {
  std::int64_t document;
  std::int64_t begin, end;       // tokens of the document
  std::int64_t document_length;  // tokens of the document that run at all: what the selector counts from
  std::int64_t first_row;        // rows of the whole run before this sequence
};

struct ExtractionPlan {
  std::vector<Sequence> sequences;  // and a last one that only holds the total rows
  std::vector<std::int64_t>
      batch_sequence;                   // batch b runs sequences [batch_sequence[b], batch_sequence[b + 1])
  std::vector<std::int64_t> batch_row;  // rows before batch b; n_batches + 1
  std::int64_t first_batch = 0, end_batch = 0;  // this part's share
  std::int64_t tokens = 0;                      // run by this part
  std::int64_t longest = 0;                     // tokens of the longest sequence of all parts
  std::int64_t largest_batch = 0;               // tokens of the largest batch

  std::int64_t rows() const {
    return batch_row[static_cast<std::size_t>(end_batch)] - batch_row[static_cast<std::size_t>(first_batch)];
  }
};

ExtractionPlan plan_extraction(const ModelSpec& spec, const Inputs& inputs, const ExtractionOptions& options);

// Edits that a document of the plan cannot have are Errors, before anything runs.
void check_edits(std::span<const Edit> edits, const ModelSpec& spec, const Inputs& inputs,
                 const ExtractionPlan& plan);

// What identifies a run beside its plan: hashes and options that decide the bytes.
struct RunIdentity {
  std::string model_fingerprint, model_name;
  std::string tokenizer_fingerprint;  // empty for --ids
  std::string compute_path;           // Backend::path
  std::string dtype;                  // f32 | bf16
  WeightFormat weights = WeightFormat::as_stored;
  IgnoredKeys ignored;
  Json edits;  // as given; null without
};
StoreSchema make_schema(const ModelSpec& spec, const Inputs& inputs, const ExtractionOptions& options,
                        const ExtractionPlan& plan, const RunIdentity& identity);
std::vector<StoreDocument> store_documents(const Inputs& inputs);

RunNeeds run_needs(const ModelSpec& spec, const ExtractionPlan& plan, std::span<const Site> sites);

// Bytes of the largest capture as the store has it, where a rank writes: of `rows` recorded rows, or of so
// many values of scores or logits. Ranks that do not write send rows as they are.
std::int64_t packed_memory(const StoreSchema& schema, std::int64_t rows, std::int64_t scores,
                           std::int64_t logits);

// Peak memory of a run beside the weights: workspace, scores, logits, store buffers or rows on their way to
// the rank that writes. spec: this rank's share of the model.
std::int64_t run_memory(const ModelSpec& spec, const Stage& stage, const ExtractionPlan& plan,
                        const StoreSchema& schema);

struct Progress {
  std::int64_t tokens_done, tokens_total;  // of this process's remaining work
  std::int64_t bytes_written;
};

enum class Outcome { complete, stopped };  // stopped: a signal asked for it, what was done is committed

std::int64_t batch_tokens(const ExtractionPlan& plan, std::int64_t batch);

// Runs the batches from the writer's first one and finishes the store. `report` is called after every batch.
Outcome run_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                       const ExtractionOptions& options, const ExtractionPlan& plan, std::vector<Edit> edits,
                       StoreWriter& writer, const std::function<void(const Progress&)>& report);

}  // namespace sonde
