#include "models/shared_extraction.h"

#include <array>
#include <cstring>
#include <type_traits>

#include "models/batch_arrays.h"
#include "models/capture_link.h"
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

// A batch of the plan's part, in a stretch of the common list; stretch -1: there is nothing more to run.
struct Step {
  std::int64_t stretch = -1, batch = 0;
};

// The batches that a model's ranks run, one after another. Its very first rank draws stretches from a queue
// of all models and tells its tensor group; each stage tells the next one, so that no stage waits for those
// behind.
class Queue {
 public:
  Queue(const std::vector<StoreStretch>& work, const Mesh& mesh)
      : work_(work), mesh_(mesh), tickets_(mesh.world->make_tickets()) {}

  Step next() {
    if (stop_requested() && !said_stop_) {  // by any rank: nobody draws any more
      tickets_->close();
      said_stop_ = true;
    }
    std::array<std::int64_t, 2> said{};
    const std::span<std::int64_t> words(said);
    if (mesh_.pipeline_index > 0) {
      mesh_.pipeline->receive(words, mesh_.pipeline_index - 1);
    } else {
      const PhaseScope scope(Phase::communication);
      if (mesh_.tensor_index == 0) draw();
      said = {step_.stretch, step_.batch};
      mesh_.tensor->broadcast(words);
    }
    if (mesh_.stages_behind() > 0)
      mesh_.pipeline->send(std::span<const std::int64_t>(words), mesh_.pipeline_index + 1);
    return step_ = {said[0], said[1]};
  }

 private:
  void draw() {
    if (tickets_->closed()) {
      step_.stretch = -1;
    } else if (step_.stretch < 0 || ++step_.batch == stretch().end_batch) {
      step_.stretch = tickets_->next();
      if (step_.stretch >= static_cast<std::int64_t>(work_.size())) step_.stretch = -1;
      if (step_.stretch >= 0) step_.batch = stretch().first_batch;
    }
  }
  const StoreStretch& stretch() const { return work_[static_cast<std::size_t>(step_.stretch)]; }

  const std::vector<StoreStretch>& work_;
  const Mesh& mesh_;
  const std::unique_ptr<Tickets> tickets_;
  Step step_;
  bool said_stop_ = false;
};

}  // namespace

Outcome run_shared_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                              const ExtractionOptions& options, const ExtractionPlan& plan,
                              std::vector<Edit> edits, SharedStoreWriter* writer, const Mesh& mesh,
                              const std::function<void(const Progress&)>& report) {
  NoSink nobody;
  const int tensor = mesh.shape.tensor, behind = mesh.stages_behind();
  // A stage may be two batches ahead of the next one (Communicator::kInFlight messages).
  CaptureSender sender(*mesh.model, 0, 2 * mesh.shape.pipeline);
  const bool sends = mesh.tensor_index == 0 && behind > 0;
  Hooks hooks(backend, model.spec.n_layers);
  hooks.capture(options.sites, writer != nullptr ? static_cast<CaptureSink&>(*writer)
                               : sends           ? static_cast<CaptureSink&>(sender)
                                                 : nobody);
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
  Queue queue(work, mesh);
  std::int64_t open = -1, tokens = 0;  // the stretch that is being run, and the tokens up to here
  for (Step step; (step = queue.next()).stretch >= 0;) {
    if (step.stretch != open) {
      if (writer != nullptr && open >= 0) writer->close();
      open = step.stretch;
      tokens = tokens_before[static_cast<std::size_t>(open)];
      if (writer != nullptr) writer->start(work[static_cast<std::size_t>(open)]);
    }
    arrays.fill(plan, inputs, options, plan.first_batch + step.batch);
    if (writer != nullptr) {
      writer->begin_batch(step.batch, batch_rows[static_cast<std::size_t>(step.batch)], arrays.rows());
      for (int stage = mesh.shape.pipeline - 1; stage > 0; --stage)  // the first one's rows come first
        receive_captures(*mesh.model, stage * tensor, *writer);
    }
    transformer.forward(arrays.batch(), hooks);
    if (writer != nullptr) writer->end_batch();
    if (sends) sender.end_batch();
    mesh.model->beat();
    tokens += batch_tokens(plan, plan.first_batch + step.batch);
    report({tokens, tokens_before.back(), writer != nullptr ? writer->bytes_written() : 0});
  }
  if (writer != nullptr && open >= 0)
    writer->close();  // one that was stopped ends with the batch it has reached
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
