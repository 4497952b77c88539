// The rates of a rank of this machine that `sonde plan` reckons with, measured by all ranks of the machine at
// the same time.
#pragma once

#include <filesystem>
#include <functional>
#include <span>

#include "distributed/communicator.h"
#include "io/activation_store.h"
#include "io/json.h"
#include "io/model_files.h"
#include "kernels/backend.h"
#include "models/model.h"
#include "models/plan/work.h"
#include "runtime/profile.h"

namespace sonde {

// Comes back when all ranks that measure have called it.
using Together = std::function<void()>;

// The median of the seconds of a call, of all that fit into about `least` seconds and three at least.
double time_of(double least, const std::function<void()>& call);

// Products and the steps between, of `runs` forwards over documents of `tokens` tokens whose phases took
// `seconds` in all; loading, where `load_seconds` is above 0; capture, where the rows went `to_store`.
struct ForwardTimes {
  std::int64_t documents = 0, tokens = 0, runs = 0;
  PhaseSeconds seconds{};
  double load_seconds = 0;
  bool to_store = false;
};
Json forward_rates(const Model& model, std::span<const Site> sites, const ForwardTimes& times);
// Attention over documents of several lengths: the FLOPs of its tiles a second, and seconds of a query and
// head beside them.
Json attention_rates(Backend& backend, const ModelSpec& spec, Precision precision, const Together& together);
// Sums over all ranks of floats as a batch of so many tokens has them, and small ones; empty for one rank.
Json link_rates(Communicator& ranks, std::int64_t tokens, std::int64_t d_model);
// Writes a store of these sites in a folder of its own under `folder`, and removes it: how fast rows reach
// the disk where nothing else is done.
Json store_rates(const ModelSpec& spec, std::span<const Site> sites, const std::filesystem::path& folder);
// The mean of what the ranks found: of all, for each key that all have.
Json mean_rates(const std::vector<Json>& ranks);

// The speed of one of several ranks of so many threads while all of this machine's cores work, against one
// alone.
double measure_crowded(Precision precision, int threads);

// All of it in a second or two, without a file: one layer of the model's shape with random weights, cut where
// it is large, on `ranks` ranks of this machine at once, over documents as `work` has them.
struct QuickRanks {
  int ranks = 1, threads = 1;
};
struct QuickModel {
  const ModelFiles& files;  // without tensors, loading is not measured
  const ModelSpec& spec;
  WeightsInMemory in_memory;
};
Json quick_rates(const QuickModel& model, const Work& work, Precision precision, QuickRanks ranks);

// A folder that ends with its holder, also where a write fails.
struct ScratchFolder {
  std::filesystem::path path;
  explicit ScratchFolder(const std::filesystem::path& in);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
};
StoreSchema bench_schema(const ModelSpec& spec, std::span<const Site> sites, std::int64_t longest,
                         std::int64_t rows, std::int64_t batches);

PhaseSeconds operator-(const PhaseSeconds& a, const PhaseSeconds& b);
void operator+=(PhaseSeconds& a, const PhaseSeconds& b);

}  // namespace sonde
