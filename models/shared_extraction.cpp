#include "models/shared_extraction.h"

#include <cstring>
#include <type_traits>

#include "models/batch_arrays.h"
#include "models/batch_queue.h"
#include "models/capture_link.h"
#include "models/transformer.h"

namespace sonde {

std::vector<std::int64_t> part_batch_rows(const ExtractionPlan& plan) {
  std::vector<std::int64_t> rows;
  for (std::int64_t b = plan.first_batch; b <= plan.end_batch; ++b)
    rows.push_back(plan.batch_row[static_cast<std::size_t>(b)] -
                   plan.batch_row[static_cast<std::size_t>(plan.first_batch)]);
  return rows;
}

namespace {

// The list of the model's first rank.
std::vector<StoreStretch> common_work(const SharedStoreWriter* writer, Communicator& ranks) {
  static_assert(std::is_trivially_copyable_v<StoreStretch>);
  std::string bytes;
  if (writer != nullptr)
    bytes.assign(reinterpret_cast<const char*>(writer->work().data()),
                 writer->work().size() * sizeof(StoreStretch));
  bytes = ranks.broadcast_bytes(std::move(bytes));
  std::vector<StoreStretch> work(bytes.size() / sizeof(StoreStretch));
  if (!work.empty()) std::memcpy(work.data(), bytes.data(), bytes.size());
  return work;
}

}  // namespace

Outcome run_shared_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                              const ExtractionOptions& options, const ExtractionPlan& plan,
                              std::vector<Edit> edits, SharedStoreWriter* writer, const Mesh& mesh,
                              const std::function<void(const Progress&)>& report) {
  const std::vector<StoreStretch> work = common_work(writer, *mesh.model);
  const std::vector<std::int64_t> batch_rows = part_batch_rows(plan);
  std::vector<std::int64_t> tokens_before = {0};  // [stretches + 1]
  for (const StoreStretch& stretch : work) {
    std::int64_t tokens = 0;
    for (std::int64_t b = stretch.first_batch; b < stretch.end_batch; ++b)
      tokens += batch_tokens(plan, plan.first_batch + b);
    tokens_before.push_back(tokens_before.back() + tokens);
  }

  // Of earlier stages each rank sends to the last one's of the same index. A stage may be two batches ahead
  // of the next one (Communicator::kInFlight messages).
  CaptureSender sender(*mesh.model, mesh.tensor_index, 2 * mesh.shape.pipeline);
  Hooks hooks(backend, model.spec.n_layers);
  hooks.capture(options.sites, writer != nullptr ? static_cast<CaptureSink&>(*writer) : sender);
  for (Edit& edit : edits) hooks.edit(std::move(edit), model.spec.hook_sizes());

  Transformer transformer(model, backend, plan.largest_batch);
  BatchArrays arrays;
  BatchQueue queue(work, mesh);
  std::int64_t open = -1, tokens = 0;  // the stretch that this rank writes, the tokens up to here
  for (BatchStep step; (step = queue.next()).stretch >= 0;) {
    const StoreStretch& stretch = work[static_cast<std::size_t>(step.stretch)];
    if (step.begins_draw) tokens = tokens_before[static_cast<std::size_t>(step.stretch)];
    const int by = queue.writer_of(step);
    const bool mine = by == mesh.tensor_index;
    hooks.take_captures(by, mine);
    arrays.fill(plan, inputs, options, plan.first_batch + step.batch);
    if (mine && writer != nullptr) {
      if (open != step.stretch) {
        if (open >= 0) writer->close();
        writer->start(stretch);
        open = step.stretch;
      }
      writer->begin_batch(step.batch, batch_rows[static_cast<std::size_t>(step.batch)], arrays.rows());
    }
    transformer.forward(arrays.batch(), hooks);
    // Behind the forward: a stage may not get to send them before the next one has taken its stream.
    for (int stage = mesh.shape.pipeline - 1; mine && writer != nullptr && stage > 0; --stage)
      receive_captures(*mesh.model, stage * mesh.shape.tensor + by, *writer);
    if (mine) writer != nullptr ? writer->end_batch() : sender.end_batch();
    mesh.model->beat();
    tokens += batch_tokens(plan, plan.first_batch + step.batch);
    report({tokens, tokens_before.back(), writer != nullptr ? writer->bytes_written() : 0});
  }
  if (open >= 0) writer->close();  // one that was stopped ends with the batch it has reached
  mesh.model->long_task();
  std::int64_t rows = writer != nullptr ? writer->finish() : 0;
  mesh.model->broadcast(std::span(&rows, 1));
  if (rows != batch_rows.back()) return Outcome::stopped;
  // The others ran what this rank has not seen; it may have run nothing at all.
  if (tokens < tokens_before.back())
    report({tokens_before.back(), tokens_before.back(), writer != nullptr ? writer->bytes_written() : 0});
  return Outcome::complete;
}

}  // namespace sonde
