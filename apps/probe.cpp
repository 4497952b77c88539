// sonde probe: labels and a store in, a probe per site out; sonde probe apply: probes on another store.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "apps/command.h"
#include "apps/model_options.h"
#include "apps/probe_options.h"
#include "apps/ranks.h"
#include "distributed/agreement.h"
#include "io/activation_store.h"
#include "io/file_util.h"
#include "io/hash.h"
#include "io/table.h"
#include "kernels/devices.h"
#include "models/probe/output.h"
#include "models/probe/probe.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "probe STORE --labels FILE --out DIR [options]   or   probe apply PROBES STORE --out FILE",
    "Trains a probe for every site of a store and measures it on rows it has not seen. DIR gets probes.csv, "
    "probes.json,\n"
    "probes.safetensors (the weights) and report.html.",
    "  # at which layer can 'label' be read? train and test rows are named by a column\n"
    "  sonde probe run/ --labels cities.csv --column label --split-column split --out probes/\n"
    "  # 60 % train, 40 % test, no city on both sides; features as they are; two columns in one pass\n"
    "  sonde probe run/ --labels cities.csv --column label --column country --group-column city "
    "--standardise no --out probes/\n"
    "  # five folds, linear discriminant analysis with shrinkage, controls\n"
    "  sonde probe run/ --labels cities.csv --folds 5 --kind lda --shrinkage 0.1 --controls shuffled,random "
    "--out probes/\n"
    "  # score every row of another store\n"
    "  sonde probe apply probes/ other-run/ --sites blocks.12.hook_resid_post --out scores.csv\n"};

const Help kApplyHelp = {
    "probe apply PROBES STORE --out FILE [options]",
    "Scores every row of STORE with the probes of a folder that `sonde probe` wrote. FILE is a CSV with one "
    "row per probe\n"
    "and store row: label, site, row, document, position, token, score (or one score per class), "
    "probability, prediction.",
    "  sonde probe apply probes/ other-run/ --out scores.csv\n"
    "  # one site, every token of the store\n"
    "  sonde probe apply probes/ tokens-run/ --sites blocks.12.hook_resid_post --out scores.csv\n"};

std::string required(const po::variables_map& values, const std::string& option) {
  if (!values.count(option))
    throw UsageError(fmt::format("--{} is missing", option), "`sonde probe --help` shows examples");
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
  wanted =
      values.count("sites") ? match_sites(values["sites"].as<std::string>(), available, layers) : available;
  for (std::size_t i = 0; i < available.size(); ++i)
    if (std::find(wanted.begin(), wanted.end(), available[i]) != wanted.end()) chosen.push_back(i);
  return chosen;
}

std::string model_name(const StoreReader& reader) {
  const Json& manifest = reader.manifest();
  if (manifest.contains("notes") && manifest["notes"].is_object())
    if (const auto name = manifest["notes"].find("model_name");
        name != manifest["notes"].end() && name->is_string())
      return *name;
  return "unknown";
}

po::options_description probe_options() {
  po::options_description o("Options");
  o.add_options()("labels", po::value<std::vector<std::string>>()->multitoken(),
                  "table whose row i labels document i (CSV, TSV, JSONL, .gz, .zst)")(
      "column", po::value<std::vector<std::string>>()->composing(),
      "label column (default: label); repeat for several")(
      "sites,site", po::value<std::string>(),
      "sites to probe: names or patterns (default: all of the store)")(
      "dataset", po::value<std::string>(), "name in the results (default: the labels' file name)")(
      "out", po::value<std::string>(), "folder for the results");
  add_probe_options(o);
  add_device_option(o);
  add_mesh_options(o);
  return o;
}

// What all ranks must have in common.
std::string digest_of(const std::filesystem::path& store, const Arguments& arguments, const Table& table,
                      std::span<const std::string> columns) {
  Sha256 hash;
  hash.update(read_file(store / "manifest.json"));
  for (const std::string& argument : arguments) hash.update(argument + '\0');
  for (const std::string& column : columns)
    for (const std::string& label : table.column(column)) hash.update(label + '\0');
  return "sha256 " + hash.finish_hex() + " over store, options and labels";
}

int run_apply(const Arguments& arguments) {
  po::options_description o("Options");
  o.add_options()("sites,site", po::value<std::string>(), "sites to score (default: all that have a probe)")(
      "out", po::value<std::string>(), "CSV file for the scores");
  add_device_option(o);
  po::variables_map values;
  if (!parse_options(arguments, kApplyHelp, o, {"PROBES", "STORE"}, values)) return 0;
  const std::string out_path = required(values, "out");
  const std::vector<SavedProbe> probes = read_probes(values["PROBES"].as<std::string>());
  const std::string store = values["STORE"].as<std::string>();
  const auto reader = StoreReader::open(store);
  const std::vector<std::size_t> chosen = chosen_sites(*reader, values);
  const auto ops = make_probe_ops(values["device"].as<std::string>());

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
        fail_hint("probes fit stores of the same model",
                  "{}: site {}: found rows of {} values, the probe expects {}", store, site.name, D,
                  probe.model.D);
      std::vector<float> x(static_cast<std::size_t>(std::min(kRows, n) * D));
      for (std::int64_t first = 0; first < n; first += kRows) {
        std::vector<std::int64_t> rows;
        for (std::int64_t i = 0; i < std::min(kRows, n - first); ++i) rows.push_back(i);
        reader->read(index, first, static_cast<std::int64_t>(rows.size()), x.data());
        for (const ScoredRow& row : apply_probe(*ops, probe, x.data(), D, rows)) {
          const auto place = static_cast<std::size_t>(first + row.row);
          out += fmt::format("{},{},{},{},{},{},{},{},{}\n", csv_quote(probe.label), csv_quote(probe.site),
                             place, reader->row_document()[place], reader->row_position()[place],
                             reader->row_token()[place], csv_quote(row.prediction),
                             row.probability < 0 ? "" : fmt::format("{}", row.probability),
                             fmt::join(row.scores, " "));
        }
      }
    }
  }
  if (used == 0)
    fail_hint("`sonde store info` shows the sites of a store, probes.csv those of the probes",
              "{}: no site has a probe in {}", store, values["PROBES"].as<std::string>());
  write_file_atomically(out_path, out);
  fmt::print("{}: {} probes on {} rows\n", out_path, used, reader->rows());
  return 0;
}

}  // namespace

int run_probe(const Arguments& arguments, Communicator& world) {
  if (!arguments.empty() && arguments[0] == "apply") {
    if (world.size() > 1)
      throw UsageError(fmt::format("sonde probe apply: found {} ranks, expected one", world.size()));
    return run_apply({arguments.begin() + 1, arguments.end()});
  }
  po::variables_map values;
  if (!parse_options(arguments, kHelp, probe_options(), {"STORE"}, values)) return 0;
  const bool speaks = world.rank() == 0;
  const Mesh mesh = lay_out_ranks(values, world, ModelRanks::one);
  const ProbeOptions options = read_probe_options(values);
  const std::filesystem::path out = required(values, "out");
  if (!values.count("labels")) throw UsageError("--labels is missing", "`sonde probe --help` shows examples");
  const auto label_files = values["labels"].as<std::vector<std::string>>();
  const Table table = read_table(label_files);
  const Split split = read_split(values, table);
  const auto columns = values.count("column") ? values["column"].as<std::vector<std::string>>()
                                              : std::vector<std::string>{"label"};

  const std::string store = values["STORE"].as<std::string>();
  const auto reader = StoreReader::open(store);
  if (table.rows() != static_cast<std::int64_t>(reader->documents().size()))
    fail_hint("row i of the labels is document i: give the table that the store was made from",
              "{}: found {} rows, expected {} (the documents of {})", label_files[0], table.rows(),
              reader->documents().size(), store);
  std::vector<ProbeTask> tasks;
  for (const std::string& column : columns) {
    const auto& labels = table.column(column);
    tasks.push_back({options.kind == ProbeKind::ridge_regression ? numeric_labels(labels, column)
                                                                 : encode_labels(labels, column),
                     split});
  }

  agree(world, "what is probed", digest_of(store, arguments, table, columns),
        "give every rank the same command line, store and labels");
  const std::vector<std::size_t> chosen = chosen_sites(*reader, values);
  const std::int64_t memory = world.all_reduce(probe_memory(values) / ranks_here(world), Reduce::min);
  const bool terminal = isatty(STDERR_FILENO) != 0 && speaks;
  const auto ops = make_probe_ops(values["device"].as<std::string>(), mesh.local);
  auto results = run_probes(*ops, store_features(*reader, chosen), tasks, options, memory, world,
                            [&](std::size_t done, std::size_t all) {
                              if (terminal)
                                fmt::print(stderr, "\r{} of {} sites{}", done, all, done == all ? "\n" : "");
                            });
  world.long_task();
  if (!speaks) return 0;
  const std::string dataset = values.count("dataset") ? values["dataset"].as<std::string>()
                                                      : std::filesystem::path(label_files[0]).stem().string();
  std::vector<ProbeRun> runs;
  for (std::size_t t = 0; t < tasks.size(); ++t)
    runs.push_back({model_name(*reader), dataset, options.standardise ? "standardised" : "raw",
                    std::move(tasks[t]), options, std::move(results[t])});

  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) fail("{}: cannot create the folder: {}", out.string(), error.message());
  write_probe_weights(out / "probes.safetensors", runs);
  write_probe_json(out / "probes.json", runs);
  write_html_report(out / "report.html", probe_report(runs));
  write_probe_csv(out / "probes.csv", runs);
  print_probe_runs(runs);
  fmt::print("{}: probes.csv, probes.json, probes.safetensors, report.html\n", out.string());
  return 0;
}

}  // namespace sonde
