#include "apps/probe_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/error.h"

namespace sonde {
namespace {

double positive(const po::variables_map& values, const char* option, bool zero = false) {
  const double v = values[option].as<double>();
  if (!(v > 0 || (zero && v == 0)) || v > 1e300)
    throw UsageError(
        fmt::format("--{}: found {}, expected a number {} 0", option, v, zero ? "of at least" : "above"));
  return v;
}

}  // namespace

void add_probe_options(po::options_description& o) {
  o.add_options()("kind", po::value<std::string>()->default_value("logistic"),
                  "logistic | ridge | mean-difference | lda | ridge-regression")(
      "C", po::value<double>()->default_value(1), "logistic: weight of the log-loss against 1/2 w.w")(
      "alpha", po::value<double>()->default_value(1), "ridge: weight of w.w")(
      "shrinkage", po::value<double>()->default_value(0), "lda: 0 to 1, towards the mean variance")(
      "standardise", po::value<std::string>(),
      "yes (default) | no: features by the train rows' mean and deviation")(
      "tolerance", po::value<double>()->default_value(1e-7),
      "logistic: largest entry of the gradient at which it has converged")(
      "split-column", po::value<std::string>(), "column that says train or test")(
      "group-column", po::value<std::string>(), "column whose values must not be on both sides")(
      "test-fraction", po::value<double>()->default_value(0.4),
      "share of documents (or groups) to test on, without a split column")(
      "folds", po::value<int>()->default_value(0), "k-fold cross-validation: every row is tested once")(
      "seed", po::value<std::uint32_t>()->default_value(42), "of split, intervals and controls")(
      "controls", po::value<std::string>()->default_value("none"),
      "none | shuffled | random | shuffled,random: the same probe on shuffled labels, on random features")(
      "bootstrap", po::value<int>()->default_value(1000), "draws for the 95 % intervals; 0: none")(
      "memory", po::value<double>(), "GiB of features held at once (default: half of what is free)");
}

ProbeOptions read_probe_options(const po::variables_map& values) {
  ProbeOptions options;
  options.kind = parse_probe_kind(values["kind"].as<std::string>());
  options.standardise = parse_yes_no(values, "standardise", true);
  options.logistic.C = positive(values, "C");
  options.logistic.tolerance = positive(values, "tolerance");
  options.alpha = positive(values, "alpha", true);
  options.shrinkage = positive(values, "shrinkage", true);
  if (options.shrinkage > 1)
    throw UsageError(fmt::format("--shrinkage: found {}, expected 0 to 1", options.shrinkage));
  options.bootstrap = values["bootstrap"].as<int>();
  if (options.bootstrap < 0)
    throw UsageError(fmt::format("--bootstrap: found {}, expected 0 or more", options.bootstrap));
  options.seed = values["seed"].as<std::uint32_t>();
  const std::string controls = values["controls"].as<std::string>();
  for (std::size_t start = 0; start <= controls.size();) {
    const std::size_t comma = std::min(controls.find(',', start), controls.size());
    const std::string one = controls.substr(start, comma - start);
    if (one == "shuffled")
      options.control_shuffled = true;
    else if (one == "random")
      options.control_random = true;
    else if (one != "none" || controls != "none")
      throw UsageError(fmt::format(
          "--controls: found '{}', expected none, shuffled, random or shuffled,random", controls));
    start = comma + 1;
  }
  return options;
}

Split read_split(const po::variables_map& values, const Table& table) {
  const int folds = values["folds"].as<int>();
  const double fraction = values["test-fraction"].as<double>();
  const std::uint32_t seed = values["seed"].as<std::uint32_t>();
  if (values.count("split-column")) {
    if (folds != 0 || values.count("group-column"))
      throw UsageError("--split-column says which rows test: it excludes --folds and --group-column");
    const std::string column = values["split-column"].as<std::string>();
    return split_by_column(table.column(column), column);
  }
  if (values.count("group-column")) {
    const auto& groups = table.column(values["group-column"].as<std::string>());
    return folds != 0 ? split_groups_in_folds(groups, folds, seed) : split_by_groups(groups, fraction, seed);
  }
  return folds != 0 ? split_in_folds(table.rows(), folds, seed) : split_by_seed(table.rows(), fraction, seed);
}

std::int64_t probe_memory(const po::variables_map& values) {
  if (values.count("memory")) return static_cast<std::int64_t>(positive(values, "memory") * (1 << 30));
  return sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
}

void print_probe_runs(std::span<const ProbeRun> runs) {
  for (const ProbeRun& run : runs) {
    fmt::print("{}, {} ({}): column '{}', {} probes, split {}\n", run.dataset, run.model, run.variant,
               run.task.labels.column, name(run.options.kind), run.task.split.how);
    fmt::print("  {:<34} {:>8} {:>17} {:>8} {:>9}\n", "site", "accuracy", "95 % interval", "AUC",
               "converged");
    for (const ProbeResult& r : run.results)
      fmt::print("  {:<34} {:>8.4f} {:>8.4f} {:>8.4f} {:>8.4f} {:>9}\n", r.site,
                 run.task.labels.values.empty() ? r.metrics.accuracy : r.r2, r.intervals.accuracy.low,
                 r.intervals.accuracy.high, r.metrics.auc, r.converged ? "yes" : "NO");
    for (const HookCurve& curve : hook_curves(run.results))
      fmt::print("  {}: jump point {}, converging point {}\n", curve.hook,
                 curve.points.jump < 0 ? "none" : std::to_string(curve.points.jump),
                 curve.points.converging < 0 ? "none" : std::to_string(curve.points.converging));
  }
}

}  // namespace sonde
