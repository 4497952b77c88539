#include "models/shared_extraction.h"

#include "models/batch_arrays.h"
#include "models/transformer.h"
#include "runtime/profile.h"
#include "runtime/stop_signal.h"

namespace sonde {

std::vector<std::int64_t> part_batch_rows(const ExtractionPlan& plan) {
  std::vector<std::int64_t> rows;
  for (std::int64_t b = plan.first_batch; b <= plan.end_batch; ++b)
    rows.push_back(plan.batch_row[static_cast<std::size_t>(b)] -
                   plan.batch_row[static_cast<std::size_t>(plan.first_batch)]);
  return rows;
}

Outcome run_shared_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                              const ExtractionOptions& options, const ExtractionPlan& plan,
                              std::vector<Edit> edits, SharedStoreWriter& writer, Communicator& ranks,
                              const std::function<void(const Progress&)>& report) {
  Hooks hooks(backend, model.spec.n_layers);
  hooks.capture(options.sites, writer);
  for (Edit& edit : edits) hooks.edit(std::move(edit), model.spec.hook_sizes());

  const std::vector<StoreStretch>& work = writer.work();
  const std::vector<std::int64_t> batch_rows = part_batch_rows(plan);
  std::vector<std::int64_t> tokens_before = {0};  // [stretches + 1]
  for (const StoreStretch& stretch : work) {
    std::int64_t tokens = 0;
    for (std::int64_t b = stretch.first_batch; b < stretch.end_batch; ++b)
      tokens += batch_tokens(plan, plan.first_batch + b);
    tokens_before.push_back(tokens_before.back() + tokens);
  }

  Transformer transformer(model, backend, plan.largest_batch);
  BatchArrays arrays;
  const auto tickets = ranks.make_tickets();
  const auto draw = [&] {
    const PhaseScope scope(Phase::communication);
    return tickets->next();
  };
  for (std::int64_t ticket; (ticket = draw()) < static_cast<std::int64_t>(work.size());) {
    const StoreStretch& stretch = work[static_cast<std::size_t>(ticket)];
    std::int64_t tokens = tokens_before[static_cast<std::size_t>(ticket)];
    writer.start(stretch);
    for (std::int64_t b = stretch.first_batch; b < stretch.end_batch && !tickets->closed(); ++b) {
      arrays.fill(plan, inputs, options, plan.first_batch + b);
      writer.begin_batch(b, batch_rows[static_cast<std::size_t>(b)], arrays.rows());
      transformer.forward(arrays.batch(), hooks);
      writer.end_batch();
      ranks.beat();
      tokens += batch_tokens(plan, plan.first_batch + b);
      report({tokens, tokens_before.back(), writer.bytes_written()});
      if (stop_requested()) tickets->close();
    }
    writer.close();  // one that was stopped ends with the batch it has reached
  }
  ranks.long_task();
  return writer.finish() == batch_rows.back() ? Outcome::complete : Outcome::stopped;
}

}  // namespace sonde
