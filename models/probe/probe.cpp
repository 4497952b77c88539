#include "models/probe/probe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "distributed/shares.h"
#include "models/probe/closed_form.h"
#include "models/probe/random.h"
#include "models/probe/shared_rows.h"
#include "runtime/error.h"

namespace sonde {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct KindName {
  ProbeKind kind;
  std::string_view name;
};
constexpr KindName kKinds[] = {{ProbeKind::logistic, "logistic"},
                               {ProbeKind::ridge, "ridge"},
                               {ProbeKind::ridge_regression, "ridge-regression"},
                               {ProbeKind::mean_difference, "mean-difference"},
                               {ProbeKind::lda, "lda"}};

// Labels of rows: classes, or numbers to regress on.
struct RowLabels {
  std::vector<std::int32_t> classes;  // [n]
  std::vector<double> values;         // [n]
};

RowLabels labels_of(const SiteFeatures& f, const Labels& labels, std::span<const std::int64_t> rows) {
  RowLabels out;
  for (const std::int64_t row : rows) {
    const std::size_t document = at(f.row_document[at(row)]);
    if (labels.values.empty())
      out.classes.push_back(labels.of_document[document]);
    else
      out.values.push_back(labels.values[document]);
  }
  return out;
}

Fit fit_probe(ProbeOps& ops, const TrainingRows& train, const RowLabels& labels, std::int64_t classes,
              const ProbeOptions& options) {
  switch (options.kind) {
    case ProbeKind::logistic:
      return fit_logistic(ops, train, labels.classes, classes, options.logistic);
    case ProbeKind::ridge:
      return fit_ridge_classifier(ops, train, labels.classes, classes, options.alpha);
    case ProbeKind::ridge_regression:
      return fit_ridge(ops, train, labels.values, 1, options.alpha);
    case ProbeKind::mean_difference:
      return fit_mean_difference(ops, train, labels.classes, classes);
    case ProbeKind::lda:
      return fit_lda(ops, train, labels.classes, classes, options.shrinkage);
  }
  return {};
}

ScoreKind score_kind(ProbeKind kind) {
  return kind == ProbeKind::logistic || kind == ProbeKind::lda ? ScoreKind::log_odds : ScoreKind::margin;
}

// Rows of one side of a split, and which of them this process holds.
struct Side {
  std::vector<std::int64_t> rows;  // of the store
  std::vector<std::int64_t> own;   // of this process's features
  std::size_t own_begin = 0;       // in `rows`: own rows follow one another

  void add(std::int64_t row, Share share) {
    if (row < share.begin) ++own_begin;
    if (row >= share.begin && row < share.end) own.push_back(row - share.begin);
    rows.push_back(row);
  }
  template <class T>
  std::vector<T> own_of(const std::vector<T>& all) const {
    if (all.empty()) return {};
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(own_begin);
    return {begin, begin + static_cast<std::ptrdiff_t>(own.size())};
  }
};
struct Fold {
  Side train, test;
};
Fold fold_rows(const SiteFeatures& f, const Split& split, int fold, Share share) {
  Fold out;
  for (std::size_t i = 0; i < f.row_document.size(); ++i)
    (split.test_fold[at(f.row_document[i])] == fold ? out.test : out.train)
        .add(static_cast<std::int64_t>(i), share);
  return out;
}

// Scores of all rows of a side, from those of each rank's own.
std::vector<double> gather_scores(Communicator& ranks, std::vector<double> own) {
  if (ranks.size() == 1) return own;
  std::vector<double> all;
  const std::string bytes(reinterpret_cast<const char*>(own.data()), own.size() * sizeof(double));
  for (const std::string& part : ranks.gather_bytes(bytes)) {
    own.resize(part.size() / sizeof(double));
    std::memcpy(own.data(), part.data(), part.size());
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

void check_side(const SiteFeatures& f, const Labels& labels, std::span<const std::int64_t> rows,
                const char* side, bool all_classes) {
  if (rows.empty()) fail_hint("choose another split", "label column '{}': no {} rows", labels.column, side);
  if (labels.classes.empty()) return;
  std::vector<std::int64_t> count(labels.classes.size());
  for (const std::int32_t c : labels_of(f, labels, rows).classes) ++count[at(c)];
  const auto present =
      static_cast<std::size_t>(std::count_if(count.begin(), count.end(), [](auto n) { return n > 0; }));
  const auto first = static_cast<std::size_t>(
      std::find_if(count.begin(), count.end(), [](auto n) { return n > 0; }) - count.begin());
  if (present < 2)
    fail_hint("choose another split, so that both sides hold more than one class",
              "label column '{}': the {} rows hold a single class ('{}')", labels.column, side,
              labels.classes[first]);
  if (all_classes && present < count.size()) {
    const auto missing = static_cast<std::size_t>(std::find(count.begin(), count.end(), 0) - count.begin());
    fail_hint("choose another split, or leave rows of that class out",
              "label column '{}': no {} row is of class '{}'", labels.column, side, labels.classes[missing]);
  }
}

// Fits on one fold and appends the scores of its test rows.
Fit run_fold(ProbeOps& ops, const float* x, const SiteFeatures& f, const Fold& fold,
             const RowLabels& train_labels, const ProbeTask& task, const ProbeOptions& options,
             Communicator& ranks, Predictions& out, LinearModel& model) {
  const TrainingRows train(ops, x, f.D, fold.train.own, options.standardise);
  const RowLabels own{fold.train.own_of(train_labels.classes), fold.train.own_of(train_labels.values)};
  Fit fit = fit_probe(ops, train, own, static_cast<std::int64_t>(task.labels.classes.size()), options);
  model = train.model(std::move(fit.w), std::move(fit.b));
  const std::vector<double> scores = gather_scores(ranks, model.scores(ops, x, f.D, fold.test.own));
  out.C = model.C;
  out.scores.insert(out.scores.end(), scores.begin(), scores.end());
  return fit;
}

// Normal numbers with each column's mean and deviation over all rows: what a probe gets from features that
// know nothing.
std::vector<float> random_features(ProbeOps& ops, const SiteFeatures& f, std::uint32_t seed, Share share) {
  std::vector<std::int64_t> rows(at(share.size()));
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  const TrainingRows moments(ops, f.x, f.D, rows, true);
  std::vector<float> out(rows.size() * at(f.D));
#pragma omp parallel for schedule(static)
  for (std::size_t i = 0; i < rows.size(); ++i) {
    SplitMix random(seed, at(share.begin) + i);
    for (std::int64_t j = 0; j < f.D; ++j)
      out[i * at(f.D) + at(j)] =
          static_cast<float>(moments.mean[at(j)] + moments.scale[at(j)] * random.normal());
  }
  return out;
}

double r_squared(std::span<const double> scores, std::span<const double> truth) {
  const double mean = std::accumulate(truth.begin(), truth.end(), 0.0) / static_cast<double>(truth.size());
  double residual = 0, total = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    residual += (truth[i] - scores[i]) * (truth[i] - scores[i]);
    total += (truth[i] - mean) * (truth[i] - mean);
  }
  return total > 0 ? 1 - residual / total : kUndefined;
}

void check_finite(const SiteFeatures& f, Share share) {
  const std::int64_t n = share.size();
  std::int64_t bad = n;
#pragma omp parallel for schedule(static) reduction(min : bad)
  for (std::int64_t i = 0; i < n; ++i) {
    float sum = 0;  // 0 x finite is 0, 0 x NaN and 0 x inf are NaN
    for (std::int64_t j = 0; j < f.D; ++j) sum += 0.0f * f.x[i * f.D + j];
    if (!(sum == 0)) bad = std::min(bad, i);
  }
  if (bad < n)
    fail_hint("a probe needs finite features; scores and patterns hold -inf by design",
              "site {}: row {} (document {}) holds NaN or infinity", f.site, share.begin + bad,
              f.row_document[at(share.begin + bad)]);
}

// Bootstrap intervals are drawn by one rank each, in turns.
void share_intervals(std::vector<std::vector<ProbeResult>>& results,
                     const std::vector<std::vector<Predictions>>& predictions, const ProbeOptions& options,
                     Communicator& ranks) {
  if (options.kind == ProbeKind::ridge_regression) return;
  std::vector<double> limits;  // 10 a result; those of others are 0
  for (std::size_t t = 0, turn = 0; t < results.size(); ++t)
    for (std::size_t s = 0; s < results[t].size(); ++s, ++turn) {
      if (turn % at(ranks.size()) != at(ranks.rank())) {
        limits.resize(limits.size() + 10, 0.0);
        continue;
      }
      const Intervals i = bootstrap_intervals(predictions[t][s], options.bootstrap, options.seed);
      for (const Interval& one : {i.accuracy, i.balanced_accuracy, i.f1, i.auc, i.log_loss})
        limits.insert(limits.end(), {one.low, one.high});
      ranks.beat();
    }
  ranks.all_reduce(std::span(limits));
  auto from = limits.begin();
  for (auto& task : results)
    for (ProbeResult& result : task)
      for (Interval* one : {&result.intervals.accuracy, &result.intervals.balanced_accuracy,
                            &result.intervals.f1, &result.intervals.auc, &result.intervals.log_loss}) {
        one->low = *from++;
        one->high = *from++;
      }
}

}  // namespace

ProbeKind parse_probe_kind(std::string_view wanted) {
  std::string known;
  for (const KindName& kind : kKinds) {
    if (kind.name == wanted) return kind.kind;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", kind.name);
  }
  throw UsageError(fmt::format("--kind: found '{}', expected one of {}", wanted, known));
}

std::string_view name(ProbeKind kind) { return kKinds[static_cast<int>(kind)].name; }

ProbeResult probe_site(ProbeOps& ops, const SiteFeatures& f, const ProbeTask& task,
                       const ProbeOptions& options, Communicator& ranks, Predictions* intervals_later) {
  const bool regression = options.kind == ProbeKind::ridge_regression;
  sonde_check(regression != task.labels.values.empty(), "labels and kind disagree");
  const Share share = share_of(static_cast<std::int64_t>(f.row_document.size()), ranks.rank(), ranks.size());
  check_finite(f, share);
  ProbeResult result;
  result.site = f.site;
  result.layer = f.layer;
  Predictions predictions{1, {}, {}, score_kind(options.kind)}, shuffled = predictions, random = predictions;
  std::vector<double> truth;
  const std::vector<float> noise =
      options.control_random ? random_features(ops, f, options.seed, share) : std::vector<float>();
  const auto noise_on_device = ops.hold(noise);
  result.objective = result.gradient_max = 0;
  result.converged = true;
  double train_right = 0;
  std::vector<Fold> folds;
  for (int i = 0; i < task.split.folds; ++i) {
    folds.push_back(fold_rows(f, task.split, i, share));
    check_side(f, task.labels, folds.back().train.rows, "train", true);
    check_side(f, task.labels, folds.back().test.rows, "test", false);
  }
  for (int i = 0; i < task.split.folds; ++i) {
    const Fold& fold = folds[at(i)];
    RowLabels train_labels = labels_of(f, task.labels, fold.train.rows);
    const RowLabels test_labels = labels_of(f, task.labels, fold.test.rows);
    truth.insert(truth.end(), test_labels.values.begin(), test_labels.values.end());
    for (Predictions* p : {&predictions, &shuffled, &random})
      p->labels.insert(p->labels.end(), test_labels.classes.begin(), test_labels.classes.end());
    const Fit fit =
        run_fold(ops, f.x, f, fold, train_labels, task, options, ranks, predictions, result.model);
    if (i == 0) result.n_train = static_cast<std::int64_t>(fold.train.rows.size());
    result.n_test += static_cast<std::int64_t>(fold.test.rows.size());
    result.objective += fit.objective / task.split.folds;
    result.gradient_max =
        std::max(fit.gradient_max, std::isnan(fit.gradient_max) ? fit.gradient_max : result.gradient_max);
    result.iterations = std::max(result.iterations, fit.iterations);
    result.converged = result.converged && fit.converged;
    if (!regression) {
      const Predictions own{result.model.C,
                            gather_scores(ranks, result.model.scores(ops, f.x, f.D, fold.train.own)),
                            train_labels.classes, predictions.kind};
      train_right += metrics_of(own).accuracy / task.split.folds;
    }
    LinearModel unused;
    if (options.control_random)
      run_fold(ops, noise.data(), f, fold, train_labels, task, options, ranks, random, unused);
    if (options.control_shuffled) {
      const auto order = numpy_permutation(static_cast<std::int64_t>(fold.train.rows.size()),
                                           options.seed + static_cast<std::uint32_t>(i));
      RowLabels mixed = train_labels;
      for (std::size_t r = 0; r < order.size(); ++r) {
        if (regression)
          mixed.values[r] = train_labels.values[at(order[r])];
        else
          mixed.classes[r] = train_labels.classes[at(order[r])];
      }
      run_fold(ops, f.x, f, fold, mixed, task, options, ranks, shuffled, unused);
    }
  }
  if (regression) {
    result.r2 = r_squared(predictions.scores, truth);
  } else {
    result.train_accuracy = train_right;
    result.metrics = metrics_of(predictions);
    std::vector<std::int64_t> count(task.labels.classes.size());
    for (const std::int32_t label : predictions.labels) ++count[at(label)];
    result.majority = static_cast<double>(*std::max_element(count.begin(), count.end())) /
                      static_cast<double>(result.n_test);
    if (intervals_later)
      *intervals_later = predictions;
    else
      result.intervals = bootstrap_intervals(predictions, options.bootstrap, options.seed);
    if (options.control_shuffled) {
      const Metrics m = metrics_of(shuffled);
      result.shuffled_accuracy = m.accuracy;
      result.shuffled_auc = m.auc;
    }
    if (options.control_random) {
      const Metrics m = metrics_of(random);
      result.random_accuracy = m.accuracy;
      result.random_auc = m.auc;
    }
  }
  if (task.split.folds > 1) {  // the probe to keep has seen every row
    Fold all;
    for (std::size_t i = 0; i < f.row_document.size(); ++i)
      all.train.add(static_cast<std::int64_t>(i), share);
    Predictions none;
    run_fold(ops, f.x, f, all, labels_of(f, task.labels, all.train.rows), task, options, ranks, none,
             result.model);
  }
  return result;
}

FeatureSource store_features(const StoreReader& reader, std::span<const std::size_t> wanted) {
  FeatureSource source;
  for (const std::size_t index : wanted) {
    const StoreSite& site = reader.sites()[index];
    source.sites.push_back({site.name, per_layer(site.site.hook) ? site.site.layer : -1, site.width(),
                            [&reader, index](std::int64_t first, std::int64_t n, float* out) {
                              reader.read(index, first, n, out);
                            }});
  }
  source.row_document = reader.row_document();
  source.documents = static_cast<std::int64_t>(reader.documents().size());
  return source;
}

std::vector<std::vector<ProbeResult>> run_probes(
    ProbeOps& ops, const FeatureSource& source, std::span<const ProbeTask> tasks, const ProbeOptions& options,
    std::int64_t memory, const std::function<void(std::size_t, std::size_t)>& progress) {
  return run_probes(ops, source, tasks, options, memory, *make_single(), progress);
}

std::vector<std::vector<ProbeResult>> run_probes(
    ProbeOps& own_ops, const FeatureSource& source, std::span<const ProbeTask> tasks,
    const ProbeOptions& options, std::int64_t memory, Communicator& ranks,
    const std::function<void(std::size_t, std::size_t)>& progress) {
  for (const ProbeTask& task : tasks) {
    const auto labels =
        static_cast<std::int64_t>(std::max(task.labels.of_document.size(), task.labels.values.size()));
    if (labels != source.documents)
      fail_hint("row i of the labels is document i: give the table that the store was made from",
                "label column '{}': found {} rows, expected {} (one per document of the store)",
                task.labels.column, labels, source.documents);
    sonde_check(static_cast<std::int64_t>(task.split.test_fold.size()) == labels,
                "split of {} documents, {} labels", task.split.test_fold.size(), labels);
  }
  const Share share =
      share_of(static_cast<std::int64_t>(source.row_document.size()), ranks.rank(), ranks.size());
  const bool shared = ranks.size() > 1;
  const std::int64_t n =
      share.size();  // rows here; the largest share decides how many sites are held at once
  const std::int64_t most = ranks.all_reduce(n, Reduce::max);
  SharedRowsOps shared_ops(own_ops, ranks);
  ProbeOps& ops = shared ? shared_ops : own_ops;
  std::vector<std::vector<ProbeResult>> results(tasks.size());
  std::vector<std::vector<Predictions>> predictions(tasks.size());
  for (std::size_t first = 0; first < source.sites.size();) {
    std::size_t end = first;
    std::int64_t floats = 0;  // of sites [first, end)
    do floats += most * source.sites[end++].D;
    while (end < source.sites.size() && 4 * (floats + most * source.sites[end].D) <= memory);
    std::vector<std::vector<float>> features;
    for (std::size_t s = first; s < end; ++s) features.emplace_back(at(n * source.sites[s].D));
    constexpr std::int64_t kRows = 8192;
    for (std::int64_t row = 0; row < n; row += kRows)
      for (std::size_t s = first; s < end; ++s)
        source.sites[s].read(share.begin + row, std::min(kRows, n - row),
                             features[s - first].data() + row * source.sites[s].D);
    for (std::size_t s = first; s < end; ++s) {
      const auto& site = source.sites[s];
      const SiteFeatures held{site.site, site.layer, features[s - first].data(), site.D, source.row_document};
      const auto on_device = ops.hold(features[s - first]);
      for (std::size_t t = 0; t < tasks.size(); ++t) {
        Predictions* later = shared ? &predictions[t].emplace_back() : nullptr;
        results[t].push_back(probe_site(ops, held, tasks[t], options, ranks, later));
      }
      std::vector<float>().swap(features[s - first]);
      if (progress) progress(s + 1, source.sites.size());
    }
    first = end;
  }
  if (shared) share_intervals(results, predictions, options, ranks);
  return results;
}

}  // namespace sonde
