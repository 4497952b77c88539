// sonde depth: at which layer can a probe read a concept? extract and probe in one, for datasets, models and
// ablations.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "apps/command.h"
#include "apps/model_options.h"
#include "apps/probe_options.h"
#include "apps/progress.h"
#include "io/activation_store.h"
#include "io/hash.h"
#include "io/html_report.h"
#include "io/table.h"
#include "io/tokenizer/tokenizer.h"
#include "kernels/devices.h"
#include "models/extraction.h"
#include "models/family.h"
#include "models/noise.h"
#include "runtime/error.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

const Help kHelp = {"depth MODEL... --data FILE [--data FILE...] --site PATTERNS --out DIR [options]",
                    "Runs the texts of every dataset through every MODEL, trains a probe per layer on the "
                    "last token's vector, and\n"
                    "shows at which depth the label becomes readable. DIR gets depth.csv, depth.json, "
                    "depth.safetensors (the probes),\n"
                    "report.html and the stores, so that running again only probes again.",
                    "  sonde depth model.gguf --data cities.csv --site 'blocks.*.ln2.hook_out' "
                    "--split-column split --out depth/\n"
                    "  # two datasets, two models, the residual stream as it is\n"
                    "  sonde depth small/ large/ --data cities.csv --data coin_flip.csv --site "
                    "'blocks.*.hook_resid_post' \\\n"
                    "      --standardise no --out depth/\n"
                    "  # ablations, compared in one report\n"
                    "  sonde depth model/ --data cities.csv --template 'True or False? {statement}' --noise "
                    "none --noise prefix \\\n"
                    "      --weights f32,int8,int4 --site 'blocks.*.ln2.hook_out' --out ablations/\n"};

po::options_description depth_options() {
  po::options_description o("Options");
  o.add_options()("data", po::value<std::vector<std::string>>()->composing(),
                  "table of texts and labels (CSV, TSV, JSONL, .gz, .zst); repeatable")(
      "column", po::value<std::string>()->default_value("text"), "column that holds the text")(
      "template", po::value<std::string>()->default_value(""),
      "text made of columns: 'True or False? {statement}'")(
      "label-column", po::value<std::vector<std::string>>()->composing(),
      "column that holds the label (default: label); repeatable")(
      "sites,site", po::value<std::string>(), "points to probe: names or patterns, commas unite")(
      "tokens", po::value<std::string>()->default_value("last"),
      "which token's vector: last | first | -2 | ...")(
      "bos", po::value<std::string>(), "yes | no: override whether a bos token is put in front")(
      "noise", po::value<std::vector<std::string>>()->composing(),
      "none (default) | prefix | charswap:P on the text, or on the columns of the template; repeatable")(
      "batch-tokens", po::value<std::int64_t>()->default_value(2048), "token budget of a batch")(
      "out", po::value<std::string>(), "folder for results and stores");
  add_model_options(o);
  add_probe_options(o);
  return o;
}

// A table read once, with what all its runs share.
struct Dataset {
  std::string name;
  Table table;
  std::vector<ProbeTask> tasks;  // one per label column
};

std::vector<Dataset> read_datasets(const po::variables_map& values) {
  std::vector<Dataset> datasets;
  const auto labels = values.count("label-column") ? values["label-column"].as<std::vector<std::string>>()
                                                   : std::vector<std::string>{"label"};
  for (const std::string& file : values["data"].as<std::vector<std::string>>()) {
    Dataset dataset{fs::path(file).stem().string(), read_table(std::span(&file, 1)), {}};
    const Split split = read_split(values, dataset.table);
    for (const std::string& column : labels)
      dataset.tasks.push_back({encode_labels(dataset.table.column(column), column), split});
    datasets.push_back(std::move(dataset));
  }
  return datasets;
}

// The texts of a dataset with noise on the text column, or on every column that the template names.
std::vector<std::string> noisy_texts(const Dataset& dataset, const po::variables_map& values,
                                     const TextNoise& noise, std::uint32_t seed) {
  const std::string pattern = values["template"].as<std::string>(),
                    column = values["column"].as<std::string>();
  if (pattern.empty()) {
    std::vector<std::string> texts = dataset.table.column(column);
    noise.apply(texts, seed);
    return texts;
  }
  Table table = dataset.table;
  for (std::size_t c = 0; c < table.names.size(); ++c)
    if (pattern.find("{" + table.names[c] + "}") != std::string::npos) noise.apply(table.columns[c], seed);
  std::vector<std::string> texts;
  for (std::int64_t row = 0; row < table.rows(); ++row) texts.push_back(fill_template(pattern, table, row));
  return texts;
}

std::vector<std::string> row_numbers(std::int64_t n) {
  std::vector<std::string> ids;
  for (std::int64_t i = 0; i < n; ++i) ids.push_back(std::to_string(i));
  return ids;
}

std::string variant_name(bool standardise, const TextNoise& noise, WeightFormat weights) {
  std::string text = standardise ? "standardised" : "raw";
  if (!noise.none()) text += ", noise " + noise.name();
  if (weights != WeightFormat::as_stored) text += fmt::format(", {} weights", name(weights));
  return text;
}

// One loaded model with its tokenizer: records datasets into stores under DIR/stores.
class Recorder {
 public:
  Recorder(const po::variables_map& values, ModelOptions model_options, WeightFormat weights)
      : values_(values),
        options_(std::move(model_options)),
        backend_(make_backend(values, fs::path(values["out"].as<std::string>()) / "stores/algorithms.txt")) {
    options_.weights = weights;
    tokenizer_ = load_tokenizer(options_.path);
    const ModelSpec spec = read_spec(ModelFiles::open(options_.path), options_.ignored);
    sites_ = match_sites(values["sites"].as<std::string>(), spec.sites(), static_cast<int>(spec.n_layers));
    const bool head = std::ranges::any_of(sites_, [](Site site) { return site.hook == Hook::logits; });
    model_ = std::make_unique<Model>(
        load_model(options_, load_options(options_, {.head = head}), *backend_,
                   {.tokens = values["batch-tokens"].as<std::int64_t>(), .logits = head}));
    fmt::print(stderr, "{} on {}, {}{}\n", model_->name, backend_->describe(), options_.dtype,
               weights == WeightFormat::as_stored ? "" : fmt::format(", {} weights", name(weights)));
  }

  const std::string& model_name() const { return model_->name; }
  double seconds() const { return seconds_; }
  std::int64_t tokens() const { return tokens_; }

  // The finished store of a dataset's texts, made now or found complete.
  std::unique_ptr<StoreReader> record(const Dataset& dataset, const std::vector<std::string>& texts) {
    std::optional<bool> bos;
    if (values_.count("bos")) bos = parse_yes_no(values_, "bos", false);
    const Inputs inputs = text_inputs(texts, row_numbers(dataset.table.rows()), bos, *tokenizer_);
    check_ids(inputs, model_->spec.vocab);
    ExtractionOptions options;
    options.sites = sites_;
    options.tokens = TokenSelector::parse(values_["tokens"].as<std::string>());
    options.batch_tokens = values_["batch-tokens"].as<std::int64_t>();
    if (options.batch_tokens < 1) throw UsageError("--batch-tokens: expected at least 1");
    const ExtractionPlan plan = plan_extraction(model_->spec, inputs, options);
    RunIdentity run = run_identity(options_, *backend_, *model_);
    run.tokenizer_fingerprint = tokenizer_->fingerprint();
    const StoreSchema schema = make_schema(model_->spec, inputs, options, plan, run);

    std::string sites;
    for (const StoreSite& site : schema.sites) sites += site.name + "\n";
    const fs::path dir =
        fs::path(values_["out"].as<std::string>()) / "stores" /
        fmt::format("{}-{}", dataset.name, sha256_hex(schema.identity.dump() + sites).substr(0, 12));
    {
      const auto writer = StoreWriter::open(dir, schema, store_documents(inputs));
      ProgressLine progress;
      run_extraction(*model_, *backend_, inputs, options, plan, {}, *writer, [&](const Progress& p) {
        progress(p);
        last_tokens_ = p.tokens_done;
      });
      progress.finish();
      seconds_ += progress.seconds();
      tokens_ += std::exchange(last_tokens_, 0);
    }
    return StoreReader::open(dir);
  }

 private:
  const po::variables_map& values_;
  ModelOptions options_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Site> sites_;
  std::unique_ptr<Model> model_;
  double seconds_ = 0;
  std::int64_t tokens_ = 0, last_tokens_ = 0;
};

std::vector<std::size_t> all_sites(const StoreReader& reader) {
  std::vector<std::size_t> sites(reader.sites().size());
  for (std::size_t i = 0; i < sites.size(); ++i) sites[i] = i;
  return sites;
}

}  // namespace

int run_depth(const Arguments& arguments) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, depth_options(), {"MODEL"}, values, true)) return 0;
  for (const char* needed : {"MODEL", "data", "sites", "out"})
    if (!values.count(needed))
      throw UsageError(fmt::format("{}{} is missing", std::string(needed) == "MODEL" ? "" : "--", needed),
                       "--help shows examples");

  const ProbeOptions probe_options = read_probe_options(values);
  const fs::path out = values["out"].as<std::string>();
  const std::vector<Dataset> datasets = read_datasets(values);
  std::vector<TextNoise> noises;
  for (const std::string& text : values.count("noise") ? values["noise"].as<std::vector<std::string>>()
                                                       : std::vector<std::string>{"none"})
    noises.push_back(TextNoise::parse(text));

  const auto probe_ops = make_probe_ops(values["device"].as<std::string>());
  std::vector<ProbeRun> runs;
  for (const std::string& path : values["MODEL"].as<std::vector<std::string>>())
    for (const WeightFormat weights : read_weight_formats(values, false)) {
      Recorder recorder(values, read_model_options(values, path), weights);
      for (const Dataset& dataset : datasets)
        for (const TextNoise& noise : noises) {
          fmt::print(stderr, "{}{}: {} texts\n", dataset.name, noise.none() ? "" : ", noise " + noise.name(),
                     dataset.table.rows());
          const auto reader =
              recorder.record(dataset, noisy_texts(dataset, values, noise, probe_options.seed));
          auto results = run_probes(*probe_ops, store_features(*reader, all_sites(*reader)), dataset.tasks,
                                    probe_options, probe_memory(values));
          for (std::size_t t = 0; t < dataset.tasks.size(); ++t)
            runs.push_back({recorder.model_name(), dataset.name,
                            variant_name(probe_options.standardise, noise, weights), dataset.tasks[t],
                            probe_options, std::move(results[t])});
        }
      if (recorder.tokens() > 0)
        fmt::print(stderr, "{} tokens in {}: {:.0f} tok/s\n", recorder.tokens(),
                   human_seconds(recorder.seconds()),
                   static_cast<double>(recorder.tokens()) / recorder.seconds());
    }

  write_probe_weights(out / "depth.safetensors", runs);
  write_probe_json(out / "depth.json", runs);
  write_html_report(out / "report.html", probe_report(runs));
  write_probe_csv(out / "depth.csv", runs);
  print_probe_runs(runs);
  fmt::print("{}: depth.csv, depth.json, depth.safetensors, report.html\n", out.string());
  return 0;
}

}  // namespace sonde
