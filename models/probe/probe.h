// sonde probe's middle: labels, split and options in, one result per site out. Rows of a site are float32;
// all arithmetic is float64. A document's rows (its tokens) all carry the document's label and lie on the
// document's side.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/communicator.h"
#include "io/activation_store.h"
#include "models/probe/labels.h"
#include "models/probe/linear_model.h"
#include "models/probe/logistic.h"
#include "models/probe/metrics.h"
#include "models/probe/split.h"

namespace sonde {

enum class ProbeKind { logistic, ridge, ridge_regression, mean_difference, lda };
ProbeKind parse_probe_kind(std::string_view name);  // "logistic", "mean-difference"; UsageError lists them
std::string_view name(ProbeKind kind);

struct ProbeOptions {
  ProbeKind kind = ProbeKind::logistic;
  bool standardise = true;
  LogisticOptions logistic;       // C, tolerance
  double alpha = 1;               // ridge
  double shrinkage = 0;           // lda
  int bootstrap = 1000;           // draws for the intervals; 0: none
  bool control_shuffled = false;  // train once more on shuffled labels
  bool control_random = false;    // and on random features of the same means and deviations
  std::uint32_t seed = 42;        // of bootstrap and controls
};

// One label column with its split: everything a probe needs besides features.
struct ProbeTask {
  Labels labels;
  Split split;
};

struct ProbeResult {
  std::string site;
  int layer = -1;  // -1 where the hook exists once per model
  std::int64_t n_train = 0, n_test = 0;
  Metrics metrics;  // on the test rows; of several folds: on all of them together
  Intervals intervals;
  double majority = kUndefined;  // share of the test rows' most frequent class: accuracy without looking
  double r2 = kUndefined;        // ridge_regression
  double train_accuracy = kUndefined;
  double objective = kUndefined, gradient_max = kUndefined;  // of several folds: mean, largest
  int iterations = 0;
  bool converged = false;  // in every fold
  double shuffled_accuracy = kUndefined, shuffled_auc = kUndefined;
  double random_accuracy = kUndefined, random_auc = kUndefined;
  LinearModel model;  // of several folds: trained on all rows
  // Hewitt and Liang 2019: how much of the accuracy the same probe does not reach on shuffled labels.
  double selectivity() const { return metrics.accuracy - shuffled_accuracy; }
};

// Features of one site: row i of the store belongs to document row_document[i]. Of several ranks each holds
// its share of the rows (shares.h): x f32 [share, D].
struct SiteFeatures {
  std::string site;
  int layer = -1;
  const float* x = nullptr;
  std::int64_t D = 0;
  std::span<const std::int64_t> row_document;  // of all rows
};
// With `intervals_later`, the predictions of the test rows go there instead of into intervals.
ProbeResult probe_site(ProbeOps& ops, const SiteFeatures& features, const ProbeTask& task,
                       const ProbeOptions& options, Communicator& ranks,
                       Predictions* intervals_later = nullptr);

// What a run of probes reads from: a store, or features in memory.
struct FeatureSource {
  struct Entry {
    std::string site;
    int layer;
    std::int64_t D;
    std::function<void(std::int64_t first, std::int64_t n, float* out)> read;  // f32 [n, D]
  };
  std::vector<Entry> sites;                // in the order of the results
  std::vector<std::int64_t> row_document;  // [n]
  std::int64_t documents = 0;
};
// The sites of `wanted` (indices into reader.sites()), which must outlive the source.
FeatureSource store_features(const StoreReader& reader, std::span<const std::size_t> wanted);

// Every task on every site: [task][site]. Each row is read once; as many sites as fit into `memory` bytes are
// read together, so that each shard is walked once per block of sites. `progress(done, all)` after every
// site.
std::vector<std::vector<ProbeResult>> run_probes(
    ProbeOps& ops, const FeatureSource& source, std::span<const ProbeTask> tasks, const ProbeOptions& options,
    std::int64_t memory, const std::function<void(std::size_t, std::size_t)>& progress = {});
// The same by several ranks, each with its share of the rows; `memory` is each rank's. Every rank has all
// results.
std::vector<std::vector<ProbeResult>> run_probes(
    ProbeOps& own_ops, const FeatureSource& source, std::span<const ProbeTask> tasks,
    const ProbeOptions& options, std::int64_t memory, Communicator& ranks,
    const std::function<void(std::size_t, std::size_t)>& progress = {});

// Jump point: first i >= 1 with a_i / a_(i-1) >= 1.1; converging point: last i >= 1 with |a_i / a_(i-1) - 1|
// >= 0.03. -1 when there is none.
struct DepthPoints {
  int jump = -1, converging = -1;
};
DepthPoints depth_points(std::span<const double> accuracy);

// Results of the same hook over the layers: "blocks.*.ln2.hook_out" and its rows, where every layer 0..
// occurs once.
struct HookCurve {
  std::string hook;
  std::vector<const ProbeResult*> layers;
  DepthPoints points;
};
std::vector<HookCurve> hook_curves(std::span<const ProbeResult> results);
std::string hook_pattern(const std::string& site);  // "blocks.3.hook_z" -> "blocks.*.hook_z"

}  // namespace sonde
