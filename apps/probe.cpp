// sonde probe: labels and a store in, a probe per site out; sonde probe apply: probes on another store.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "apps/command.h"
#include "io/activation_store.h"
#include "io/file_util.h"
#include "io/table.h"
#include "models/probe/output.h"
#include "models/probe/probe.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "probe STORE --labels FILE --out DIR [options]   or   probe apply PROBES STORE --out FILE",
    "Trains a probe for every site of a store and measures it on rows it has not seen. DIR gets probes.csv, probes.json,\n"
    "probes.safetensors (the weights) and report.html.",
    "  # at which layer can 'label' be read? train and test rows are named by a column\n"
    "  sonde probe run/ --labels cities.csv --column label --split-column split --out probes/\n"
    "  # 60 % train, 40 % test, no city on both sides; features as they are; two columns in one pass\n"
    "  sonde probe run/ --labels cities.csv --column label --column country --group-column city --standardise no --out probes/\n"
    "  # five folds, linear discriminant analysis with shrinkage, controls\n"
    "  sonde probe run/ --labels cities.csv --folds 5 --kind lda --shrinkage 0.1 --controls shuffled,random --out probes/\n"
    "  # score every row of another store\n"
    "  sonde probe apply probes/ other-run/ --sites blocks.12.hook_resid_post --out scores.csv\n"};

po::options_description probe_options() {
  po::options_description o("Options");
  o.add_options()
      ("labels", po::value<std::vector<std::string>>()->multitoken(), "table whose row i labels document i (CSV, TSV, JSONL, .gz, .zst)")
      ("column", po::value<std::vector<std::string>>()->composing(), "label column (default: label); repeat for several")
      ("sites,site", po::value<std::string>(), "sites to probe: names or patterns (default: all of the store)")
      ("kind", po::value<std::string>()->default_value("logistic"), "logistic | ridge | mean-difference | lda | ridge-regression")
      ("C", po::value<double>()->default_value(1), "logistic: weight of the log-loss against 1/2 w.w")
      ("alpha", po::value<double>()->default_value(1), "ridge: weight of w.w")
      ("shrinkage", po::value<double>()->default_value(0), "lda: 0 to 1, towards the mean variance")
      ("standardise", po::value<std::string>(), "yes (default) | no: features by the train rows' mean and deviation")
      ("tolerance", po::value<double>()->default_value(1e-7), "logistic: largest entry of the gradient at which it has converged")
      ("split-column", po::value<std::string>(), "column that says train or test")
      ("group-column", po::value<std::string>(), "column whose values must not be on both sides")
      ("test-fraction", po::value<double>()->default_value(0.4), "share of documents (or groups) to test on, without a split column")
      ("folds", po::value<int>()->default_value(0), "k-fold cross-validation: every row is tested once")
      ("seed", po::value<std::uint32_t>()->default_value(42), "of split, intervals and controls")
      ("controls", po::value<std::string>()->default_value("none"), "none | shuffled | random | shuffled,random: the same probe on shuffled labels, on random features")
      ("bootstrap", po::value<int>()->default_value(1000), "draws for the 95 % intervals; 0: none")
      ("memory", po::value<double>(), "GiB of features held at once (default: half of what is free)")
      ("dataset", po::value<std::string>(), "name in the results (default: the labels' file name)")
      ("out", po::value<std::string>(), "folder for the results");
  return o;
}

const Help kApplyHelp = {
    "probe apply PROBES STORE --out FILE [options]",
    "Scores every row of STORE with the probes of a folder that `sonde probe` wrote. FILE is a CSV with one row per probe\n"
    "and store row: label, site, row, document, position, token, score (or one score per class), probability, prediction.",
    "  sonde probe apply probes/ other-run/ --out scores.csv\n"
    "  # one site, every token of the store\n"
    "  sonde probe apply probes/ tokens-run/ --sites blocks.12.hook_resid_post --out scores.csv\n"};

std::string required(const po::variables_map& values, const std::string& option) {
  if (!values.count(option)) throw UsageError(fmt::format("--{} is missing", option), "`sonde probe --help` shows examples");
  return values[option].as<std::string>();
}

std::vector<std::size_t> chosen_sites(const StoreReader& reader, const po::variables_map& values) {
  std::vector<std::size_t> chosen;
  std::vector<Site> available, wanted;
  int layers = 0;
  for (const StoreSite& site : reader.sites()) {
    available.push_back(site.site);
    layers = std::max(layers, site.site.layer + 1);
  }
  wanted = values.count("sites") ? match_sites(values["sites"].as<std::string>(), available, layers) : available;
  for (std::size_t i = 0; i < available.size(); ++i)
    if (std::find(wanted.begin(), wanted.end(), available[i]) != wanted.end()) chosen.push_back(i);
  return chosen;
}

double positive(const po::variables_map& values, const char* option, bool zero = false) {
  const double v = values[option].as<double>();
  if (!(v > 0 || (zero && v == 0)) || v > 1e300)
    throw UsageError(fmt::format("--{}: found {}, expected a number {} 0", option, v, zero ? "of at least" : "above"));
  return v;
}

ProbeOptions read_options(const po::variables_map& values) {
  ProbeOptions options;
  options.kind = parse_probe_kind(values["kind"].as<std::string>());
  options.standardise = parse_yes_no(values, "standardise", true);
  options.logistic.C = positive(values, "C");
  options.logistic.tolerance = positive(values, "tolerance");
  options.alpha = positive(values, "alpha", true);
  options.shrinkage = positive(values, "shrinkage", true);
  if (options.shrinkage > 1) throw UsageError(fmt::format("--shrinkage: found {}, expected 0 to 1", options.shrinkage));
  options.bootstrap = values["bootstrap"].as<int>();
  if (options.bootstrap < 0) throw UsageError(fmt::format("--bootstrap: found {}, expected 0 or more", options.bootstrap));
  options.seed = values["seed"].as<std::uint32_t>();
  const std::string controls = values["controls"].as<std::string>();
  for (std::size_t start = 0; start <= controls.size();) {
    const std::size_t comma = std::min(controls.find(',', start), controls.size());
    const std::string one = controls.substr(start, comma - start);
    if (one == "shuffled") options.control_shuffled = true;
    else if (one == "random") options.control_random = true;
    else if (one != "none" || controls != "none")
      throw UsageError(fmt::format("--controls: found '{}', expected none, shuffled, random or shuffled,random", controls));
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

std::int64_t memory_bytes(const po::variables_map& values) {
  if (values.count("memory")) return static_cast<std::int64_t>(positive(values, "memory") * (1 << 30));
  return sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
}

std::string model_name(const StoreReader& reader) {
  const Json& manifest = reader.manifest();
  if (manifest.contains("notes") && manifest["notes"].is_object()) return manifest["notes"].value("model_name", "unknown");
  return "unknown";
}

void print_summary(std::span<const ProbeRun> runs) {
  for (const ProbeRun& run : runs) {
    fmt::print("{}: {} probes, split {}\n", run.task.labels.column, name(run.options.kind), run.task.split.how);
    fmt::print("  {:<34} {:>8} {:>17} {:>8} {:>9}\n", "site", "accuracy", "95 % interval", "AUC", "converged");
    for (const ProbeResult& r : run.results)
      fmt::print("  {:<34} {:>8.4f} {:>8.4f} {:>8.4f} {:>8.4f} {:>9}\n", r.site, run.task.labels.values.empty() ? r.metrics.accuracy : r.r2,
                 r.intervals.accuracy.low, r.intervals.accuracy.high, r.metrics.auc, r.converged ? "yes" : "NO");
    for (const HookCurve& curve : hook_curves(run.results))
      fmt::print("  {}: jump point {}, converging point {}\n", curve.hook, curve.points.jump < 0 ? "none" : std::to_string(curve.points.jump),
                 curve.points.converging < 0 ? "none" : std::to_string(curve.points.converging));
  }
}

int run_apply(const Arguments& arguments) {
  po::options_description o("Options");
  o.add_options()("sites,site", po::value<std::string>(), "sites to score (default: all that have a probe)")
      ("out", po::value<std::string>(), "CSV file for the scores");
  po::variables_map values;
  if (!parse_options(arguments, kApplyHelp, o, {"PROBES", "STORE"}, values)) return 0;
  const std::string out_path = required(values, "out");
  const std::vector<SavedProbe> probes = read_probes(values["PROBES"].as<std::string>());
  const std::string store = values["STORE"].as<std::string>();
  const auto reader = StoreReader::open(store);
  const std::vector<std::size_t> chosen = chosen_sites(*reader, values);
  const auto ops = make_cpu_probe_ops();

  std::string out = "label,site,row,document,position,token,prediction,probability,scores\n";
  std::size_t used = 0;
  for (const std::size_t index : chosen) {
    const StoreSite& site = reader->sites()[index];
    const std::int64_t D = site.width(), n = reader->rows();
    constexpr std::int64_t kRows = 4096;
    for (const SavedProbe& probe : probes) {
      if (probe.site != site.name) continue;
      ++used;
      if (probe.model.D != D)
        fail_hint("probes fit stores of the same model", "{}: site {}: found rows of {} values, the probe expects {}", store, site.name, D, probe.model.D);
      std::vector<float> x(static_cast<std::size_t>(std::min(kRows, n) * D));
      for (std::int64_t first = 0; first < n; first += kRows) {
        std::vector<std::int64_t> rows;
        for (std::int64_t i = 0; i < std::min(kRows, n - first); ++i) rows.push_back(i);
        reader->read(index, first, static_cast<std::int64_t>(rows.size()), x.data());
        for (const ScoredRow& row : apply_probe(*ops, probe, x.data(), D, rows)) {
          const auto place = static_cast<std::size_t>(first + row.row);
          out += fmt::format("{},{},{},{},{},{},{},{},{}\n", csv_quote(probe.label), csv_quote(probe.site), place, reader->row_document()[place],
                             reader->row_position()[place], reader->row_token()[place], csv_quote(row.prediction),
                             row.probability < 0 ? "" : fmt::format("{}", row.probability), fmt::join(row.scores, " "));
        }
      }
    }
  }
  if (used == 0)
    fail_hint("`sonde store info` shows the sites of a store, probes.csv those of the probes", "{}: no site has a probe in {}", store,
              values["PROBES"].as<std::string>());
  write_file_atomically(out_path, out);
  fmt::print("{}: {} probes on {} rows\n", out_path, used, reader->rows());
  return 0;
}

}  // namespace

int run_probe(const Arguments& arguments) {
  if (!arguments.empty() && arguments[0] == "apply") return run_apply({arguments.begin() + 1, arguments.end()});
  po::variables_map values;
  if (!parse_options(arguments, kHelp, probe_options(), {"STORE"}, values)) return 0;
  const ProbeOptions options = read_options(values);
  const std::filesystem::path out = required(values, "out");
  if (!values.count("labels")) throw UsageError("--labels is missing", "`sonde probe --help` shows examples");
  const auto label_files = values["labels"].as<std::vector<std::string>>();
  const Table table = read_table(label_files);
  const Split split = read_split(values, table);
  const auto columns = values.count("column") ? values["column"].as<std::vector<std::string>>() : std::vector<std::string>{"label"};

  const std::string store = values["STORE"].as<std::string>();
  const auto reader = StoreReader::open(store);
  if (table.rows() != static_cast<std::int64_t>(reader->documents().size()))
    fail_hint("row i of the labels is document i: give the table that the store was made from", "{}: found {} rows, expected {} (the documents of {})",
              label_files[0], table.rows(), reader->documents().size(), store);
  std::vector<ProbeTask> tasks;
  for (const std::string& column : columns) {
    const auto& labels = table.column(column);
    tasks.push_back({options.kind == ProbeKind::ridge_regression ? numeric_labels(labels, column) : encode_labels(labels, column), split});
  }

  const std::vector<std::size_t> chosen = chosen_sites(*reader, values);
  const bool terminal = isatty(STDERR_FILENO) != 0;
  auto results = run_probes(store_features(*reader, chosen), tasks, options, memory_bytes(values), [&](std::size_t done, std::size_t all) {
    if (terminal) fmt::print(stderr, "\r{} of {} sites{}", done, all, done == all ? "\n" : "");
  });
  const std::string dataset = values.count("dataset") ? values["dataset"].as<std::string>() : std::filesystem::path(label_files[0]).stem().string();
  std::vector<ProbeRun> runs;
  for (std::size_t t = 0; t < tasks.size(); ++t)
    runs.push_back({model_name(*reader), dataset, options.standardise ? "standardised" : "raw", std::move(tasks[t]), options, std::move(results[t])});

  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) fail("{}: cannot create the folder: {}", out.string(), error.message());
  write_probe_weights(out / "probes.safetensors", runs);
  write_probe_json(out / "probes.json", runs);
  write_html_report(out / "report.html", probe_report(runs));
  write_probe_csv(out / "probes.csv", runs);
  print_summary(runs);
  fmt::print("{}: probes.csv, probes.json, probes.safetensors, report.html\n", out.string());
  return 0;
}

}  // namespace sonde
