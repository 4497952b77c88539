#include "models/shared_extraction.h"

#include <cstring>
#include <type_traits>

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

namespace {

// Of ranks that do not write.
class NoSink : public CaptureSink {
 public:
  bool takes_device_rows() const override { return true; }
  void put(Site, Tensor, std::int64_t) override {}
};

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

// What the model's first rank draws from a queue of all, or says, for all ranks of the model.
class Queue {
 public:
  Queue(bool leads, const Mesh& mesh)
      : ranks_(*mesh.model), tickets_(leads ? mesh.data->make_tickets() : nullptr) {}

  std::int64_t next() {
    const PhaseScope scope(Phase::communication);
    std::int64_t ticket = tickets_ ? tickets_->next() : 0;
    ranks_.broadcast(std::span(&ticket, 1));
    return ticket;
  }
  // Whether any rank was asked to stop: then nobody draws any more.
  bool stopped() {
    const PhaseScope scope(Phase::communication);
    bool stop = stop_requested() || (tickets_ && tickets_->closed());
    stop = ranks_.all_reduce(std::int64_t{stop}, Reduce::max) != 0;
    if (stop && tickets_) tickets_->close();
    return stop;
  }

 private:
  Communicator& ranks_;
  std::unique_ptr<Tickets> tickets_;
};

}  // namespace

Outcome run_shared_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                              const ExtractionOptions& options, const ExtractionPlan& plan,
                              std::vector<Edit> edits, SharedStoreWriter* writer, const Mesh& mesh,
                              const std::function<void(const Progress&)>& report) {
  NoSink nobody;
  Hooks hooks(backend, model.spec.n_layers);
  hooks.capture(options.sites, writer != nullptr ? static_cast<CaptureSink&>(*writer) : nobody);
  for (Edit& edit : edits) hooks.edit(std::move(edit), model.spec.hook_sizes());

  const std::vector<StoreStretch> work = common_work(writer, *mesh.model);
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
  Queue queue(writer != nullptr, mesh);
  bool stopped = false;
  std::int64_t reported = 0;
  for (std::int64_t ticket; !stopped && (ticket = queue.next()) < static_cast<std::int64_t>(work.size());) {
    const StoreStretch& stretch = work[static_cast<std::size_t>(ticket)];
    std::int64_t tokens = tokens_before[static_cast<std::size_t>(ticket)];
    if (writer != nullptr) writer->start(stretch);
    for (std::int64_t b = stretch.first_batch; b < stretch.end_batch && !(stopped = queue.stopped()); ++b) {
      arrays.fill(plan, inputs, options, plan.first_batch + b);
      if (writer != nullptr) writer->begin_batch(b, batch_rows[static_cast<std::size_t>(b)], arrays.rows());
      transformer.forward(arrays.batch(), hooks);
      if (writer != nullptr) writer->end_batch();
      mesh.model->beat();
      tokens += batch_tokens(plan, plan.first_batch + b);
      report({reported = tokens, tokens_before.back(), writer != nullptr ? writer->bytes_written() : 0});
    }
    if (writer != nullptr) writer->close();  // one that was stopped ends with the batch it has reached
  }
  mesh.model->long_task();
  std::int64_t rows = writer != nullptr ? writer->finish() : 0;
  mesh.model->broadcast(std::span(&rows, 1));
  if (rows != batch_rows.back()) return Outcome::stopped;
  // The others ran what this rank has not seen; it may have run nothing at all.
  if (reported < tokens_before.back())
    report({tokens_before.back(), tokens_before.back(), writer != nullptr ? writer->bytes_written() : 0});
  return Outcome::complete;
}

}  // namespace sonde
