// The rates of a CPU of this machine in a second or two, for a plan without a bench.
#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "apps/bench_forward.h"
#include "apps/bench_rates.h"
#include "kernels/cpu/peak.h"
#include "models/family.h"
#include "models/plan/memory.h"
#include "models/weight_source.h"
#include "runtime/cpu.h"

namespace sonde {
namespace {

constexpr std::int64_t kMostValues = 16'000'000, kMostTokens = 1024;
constexpr std::size_t kRuns = 9;

// The last layer of the model, or of a tensor rank's share of it, with few words.
ModelSpec one_layer(const ModelSpec& spec, std::int64_t share, std::int64_t longest) {
  ModelSpec shape = tensor_share(spec, std::min(share, spec.n_heads));
  const int last = static_cast<int>(spec.n_layers) - 1;
  shape.n_layers = 1;
  shape.vocab = std::min<std::int64_t>(spec.vocab, 256);
  shape.context = longest;
  if (!spec.windows.empty()) shape.windows = {spec.window(last)};
  if (shape.windows.empty() || shape.windows[0] == 0) shape.local_rope.reset();
  shape.n_experts = 0;
  shape.dense_layers.clear();
  if (!spec.has_experts(last)) return shape;
  // As many rows for an expert as in the whole model.
  const std::int64_t most = spec.n_experts / spec.experts_per_token;
  shape.n_experts = std::max(spec.n_experts / share, most);
  shape.experts_per_token =
      std::max<std::int64_t>(1, spec.experts_per_token * shape.n_experts / spec.n_experts);
  shape.d_expert = std::max<std::int64_t>(1, spec.d_expert * spec.n_experts / share / shape.n_experts);
  return shape;
}

ModelSpec small_layer(const ModelSpec& spec, std::int64_t longest) {
  ModelSpec shape = one_layer(spec, 1, longest);
  for (std::int64_t share = 2; parameter_count(shape) > kMostValues && share <= spec.n_heads; share *= 2)
    shape = one_layer(spec, share, longest);
  return shape;
}

// Prepared bytes a second of linear weights of the files, some of the first ones.
double load_rate(Backend& backend, const ModelFiles& files, const ModelSpec& spec, Precision precision) {
  const auto source = file_weights(files, spec.n_experts);
  const TensorShard whole = TensorShard::of(spec, 0, 1);
  double seconds = 0;
  std::int64_t values = 0, bytes = 0;
  for (const TensorRow& row : tensors_of(files, spec)) {
    if (!is_block_linear(row.part)) continue;
    const std::int64_t count = row.shape[0] * row.shape[1];
    if (values > 0 && values + count > kMostValues) break;
    values += count;
    const auto start = std::chrono::steady_clock::now();
    const OwnedTensor w = make_tensor(DType::f32, {row.shape[0], row.shape[1]});
    source->read(row, whole.slab(row), w.view);
    bytes += backend.prepare_weight(w.view, precision)->bytes();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return static_cast<double>(bytes) / seconds;
}

// How much longer a product of `rows` rows takes with a weight of the file as it is there.
double kept_slowdown(Backend& backend, const QuickModel& model, Precision precision, std::int64_t rows) {
  const auto source = file_weights(model.files, model.spec.n_experts);
  const TensorShard whole = TensorShard::of(model.spec, 0, 1);
  for (const TensorRow& row : tensors_of(model.files, model.spec)) {
    if (row.part != Part::down) continue;
    std::vector<RawRow> raw = source->raw_rows(row, whole.slab(row));
    if (raw.empty() || row.shape[0] * row.shape[1] > kMostValues) break;
    const OwnedTensor w = make_tensor(DType::f32, {row.shape[0], row.shape[1]}),
                      x = make_tensor(DType::f32, {rows, row.shape[1]}),
                      y = make_tensor(DType::f32, {rows, row.shape[0]});
    source->read(row, whole.slab(row), w.view);
    std::fill_n(x.view.f32(), x.view.count(), 0.5f);
    const auto prepared = backend.prepare_weight(w.view, precision),
               kept = backend.keep_weight(std::move(raw), row.shape[1], precision);
    const double slow = time_of(0.1, [&] { backend.linear(y.view, x.view, *kept); }),
                 fast = time_of(0.1, [&] { backend.linear(y.view, x.view, *prepared); });
    return slow / fast;
  }
  return 1;
}

Json rank_rates(const QuickModel& whole, const ModelSpec& shape, const BenchBatches& batches,
                std::int64_t documents, std::int64_t tokens, Precision precision, int threads,
                const Together& together) {
  set_thread_count(threads);
  const auto backend = make_cpu_backend();
  Json rates = Json::object();
  if (!whole.files.tensors().empty()) {
    together();
    rates["load_bytes"] = load_rate(*backend, whole.files, whole.spec, precision);
  }
  const Model model =
      Model::random(shape, {.precision = precision, .ignored = {}, .run = {.head = false}}, 1, *backend);
  const std::vector<Site> sites = {{Hook::resid_post, 0}};
  MemorySink sink;
  Hooks hooks(*backend, 1);
  hooks.capture(sites, sink);
  Transformer transformer(model, *backend, batches.largest());
  batches.run(transformer, hooks);
  ForwardTimes times{.documents = documents, .tokens = tokens, .runs = 1};
  std::array<PhaseSeconds, kRuns> runs;
  for (PhaseSeconds& took : runs) {
    together();
    const PhaseSeconds before = phase_seconds();
    batches.run(transformer, hooks);
    took = phase_seconds() - before;
  }
  for (std::size_t phase = 0; phase < times.seconds.size(); ++phase) {  // medians: the runs are short
    std::ranges::sort(runs, {}, [&](const PhaseSeconds& took) { return took[phase]; });
    times.seconds[phase] = runs[kRuns / 2][phase];
  }
  rates.update(forward_rates(model, sites, times));
  if (whole.in_memory == WeightsInMemory::quantised && !whole.files.tensors().empty()) {
    together();
    rates["products_flops"] =
        rates["products_flops"].get<double>() / kept_slowdown(*backend, whole, precision, batches.largest());
  }
  rates.update(attention_rates(*backend, shape, precision, together));
  together();
  rates["weights_bytes"] = measure_read_bandwidth_gbs(threads, 0.1) * 1e9;
  return rates;
}

}  // namespace

Json quick_rates(const QuickModel& model, const Work& work, Precision precision, QuickRanks ranks) {
  std::int64_t sequences = 0;
  for (const Work::Sequences& s : work.sequences) sequences += s.count;
  const std::int64_t tokens = std::max<std::int64_t>(1, std::min(work.tokens / sequences, kMostTokens)),
                     batch = std::min(work.tokens / work.batches, kMostTokens),
                     documents = std::max<std::int64_t>(1, batch / tokens);
  const ModelSpec shape = small_layer(model.spec, tokens);
  const BenchBatches batches(tokens, documents, documents * tokens, shape.vocab);

  std::vector<Json> rates(static_cast<std::size_t>(ranks.ranks));
  std::barrier barrier(ranks.ranks);
  std::exception_ptr failed;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (Json& mine : rates)
    threads.emplace_back([&] {
      try {
        mine = rank_rates(model, shape, batches, documents, tokens, precision, ranks.threads,
                          [&] { barrier.arrive_and_wait(); });
      } catch (...) {
        const std::lock_guard lock(mutex);
        failed = std::current_exception();
        barrier.arrive_and_drop();
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (failed) std::rethrow_exception(failed);
  return {{"rates", mean_rates(rates)}, {"ranks_per_node", ranks.ranks}};
}

}  // namespace sonde
