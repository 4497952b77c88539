#include "models/scoring.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>

#include "models/batch_arrays.h"
#include "models/transformer.h"

namespace sonde {
namespace {

// Turns rows of logits into the log-probability of each one's target. Ranks that share the vocabulary have
// some columns of the rows each; of a row they exchange two numbers.
class LogProbSink : public CaptureSink {
 public:
  LogProbSink(const Model& model, Backend& backend)
      : backend_(backend),
        ranks_(model.stage.last() ? model.tensor_group : nullptr),
        vocab_(model.shard.vocab) {}

  bool takes_device_rows() const override { return true; }

  std::vector<std::int32_t> targets;  // of the batch's selected tokens
  std::vector<double> log_probs;

  void begin() {
    log_probs.assign(targets.size(), 0);
    log_sums_.assign(targets.size(), -std::numeric_limits<double>::infinity());
  }
  void put(Site, Tensor rows, std::int64_t row0) override {
    const auto at = static_cast<std::size_t>(row0), n = static_cast<std::size_t>(rows.rows());
    if (ranks_ != nullptr) return put_columns(rows, at, n);
    backend_.log_softmax_at(std::span(log_probs).subspan(at, n), rows, std::span(targets).subspan(at, n));
  }
  // log p = logit of the target - log of the sum of all exp, each of them on some rank.
  void end() {
    if (ranks_ == nullptr) return;
    std::vector<double> largest = log_sums_;
    ranks_->all_reduce(std::span(largest), Reduce::max);
    for (std::size_t i = 0; i < largest.size(); ++i) log_sums_[i] = std::exp(log_sums_[i] - largest[i]);
    ranks_->all_reduce(std::span(log_sums_));
    ranks_->all_reduce(std::span(log_probs));
    for (std::size_t i = 0; i < largest.size(); ++i) log_probs[i] -= largest[i] + std::log(log_sums_[i]);
  }

 private:
  // The target's logit, where it is among these columns, and the log of the sum of exp over them.
  void put_columns(Tensor rows, std::size_t at, std::size_t n) {
    if (rows.width() == 0) return;
    const Tensor host = backend_.on_host(rows, host_rows_);
    std::vector<std::int32_t> largest(n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::span row(host.row(static_cast<std::int64_t>(i)), static_cast<std::size_t>(rows.width()));
      largest[i] = static_cast<std::int32_t>(std::ranges::max_element(row) - row.begin());
      const std::int64_t target = targets[at + i] - vocab_.begin;
      if (target >= 0 && target < vocab_.size()) log_probs[at + i] = row[static_cast<std::size_t>(target)];
    }
    const std::span sums = std::span(log_sums_).subspan(at, n);
    backend_.log_softmax_at(sums, rows, largest);
    for (std::size_t i = 0; i < n; ++i)
      sums[i] = host.row(static_cast<std::int64_t>(i))[largest[i]] - sums[i];
  }

  Backend& backend_;
  Communicator* ranks_;
  Share vocab_;
  std::vector<double> log_sums_;
  Buffer host_rows_;
};

// The batch that holds the document's first sequence; the end where there is none.
std::int64_t batch_of(const ExtractionPlan& plan, std::int64_t document) {
  for (std::int64_t b = 0; b < plan.end_batch; ++b)
    for (std::int64_t s = plan.batch_sequence[static_cast<std::size_t>(b)];
         s < plan.batch_sequence[static_cast<std::size_t>(b) + 1]; ++s)
      if (plan.sequences[static_cast<std::size_t>(s)].document >= document) return b;
  return plan.end_batch;
}

}  // namespace

void score_documents(const Model& model, Backend& backend, const Inputs& inputs,
                     const ExtractionOptions& options, const ExtractionPlan& plan, std::vector<Edit> edits,
                     std::int64_t first_document, const OnScored& on_scored,
                     const std::function<void(const Progress&)>& report) {
  LogProbSink sink(model, backend);
  Hooks hooks(backend, model.spec.n_layers);
  const Site logits[] = {{Hook::logits}};
  hooks.capture(logits, sink, Columns::own);
  for (Edit& edit : edits) hooks.edit(std::move(edit), model.spec.hook_sizes());

  Transformer transformer(model, backend, plan.largest_batch);
  std::int64_t document = -1;  // whose log-probabilities are being gathered
  std::vector<double> gathered;
  const auto flush = [&] {
    if (document >= first_document) on_scored(document, gathered);
    gathered.clear();
  };
  const std::int64_t first = batch_of(plan, first_document);
  Progress progress{0, 0, 0};
  for (std::int64_t b = first; b < plan.end_batch; ++b) progress.tokens_total += batch_tokens(plan, b);

  // What this stage has run and the last one has not: it comes back as many batches later as there are stages
  // behind.
  struct Ran {
    BatchArrays arrays;
    std::vector<double> log_probs;
  };
  std::deque<Ran> ran;
  const std::int64_t behind = model.stage.behind();
  for (std::int64_t b = first; b < plan.end_batch + behind; ++b) {
    if (b < plan.end_batch) {
      BatchArrays& arrays = ran.emplace_back().arrays;
      arrays.fill(plan, inputs, options, b);
      arrays.selected.clear();  // all tokens but each sequence's last: the next token is the target
      sink.targets.clear();
      for (std::size_t s = 0; s + 1 < arrays.starts.size(); ++s)
        for (std::int32_t t = arrays.starts[s]; t + 1 < arrays.starts[s + 1]; ++t) {
          arrays.selected.push_back(t);
          sink.targets.push_back(arrays.ids[static_cast<std::size_t>(t) + 1]);
        }
      sink.begin();
      if (!arrays.selected.empty()) transformer.forward(arrays.batch(), hooks);
      sink.end();
      ran.back().log_probs = sink.log_probs;
    }
    if (b < first + behind) continue;
    auto& [arrays, log_probs] = ran.front();
    share_found(model, std::span(log_probs));

    std::size_t row = 0;
    for (std::size_t s = 0; s + 1 < arrays.starts.size(); ++s) {
      if (arrays.stretches[s].document != document) {
        flush();
        document = arrays.stretches[s].document;
      }
      for (std::int32_t t = arrays.starts[s]; t + 1 < arrays.starts[s + 1]; ++t)
        gathered.push_back(log_probs[row++]);
    }
    progress.tokens_done += static_cast<std::int64_t>(arrays.ids.size());
    report(progress);
    ran.pop_front();
  }
  flush();
}

double mean_loss(const std::vector<double>& log_probs) {
  if (log_probs.empty()) return std::numeric_limits<double>::quiet_NaN();
  return -std::accumulate(log_probs.begin(), log_probs.end(), 0.0) / static_cast<double>(log_probs.size());
}

}  // namespace sonde
