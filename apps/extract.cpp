// sonde extract: texts (or token ids) through a model, activations into a store.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "apps/command.h"
#include "apps/input_options.h"
#include "apps/model_options.h"
#include "apps/profile.h"
#include "apps/progress.h"
#include "apps/ranks.h"
#include "distributed/agreement.h"
#include "io/activation_store.h"
#include "io/hash.h"
#include "kernels/cpu/peak.h"
#include "models/edit_file.h"
#include "models/extraction.h"
#include "models/family.h"
#include "models/plan/work.h"
#include "models/shared_extraction.h"
#include "runtime/cpu.h"
#include "runtime/error.h"
#include "runtime/stop_signal.h"

namespace sonde {
namespace {

const Help kHelp = {
    "extract MODEL (--texts FILE... | --ids FILE...) --sites PATTERNS --out DIR [options]",
    "Runs documents through MODEL and records activations at the chosen points. Running the same command "
    "again\n"
    "resumes where a killed run stopped and ends with the same bytes.",
    "  # the residual stream of every layer at the last token of each text\n"
    "  sonde extract model/ --texts cities.csv --column text --sites 'blocks.*.hook_resid_post' --tokens "
    "last --out run/\n"
    "  # every token of a corpus, one layer, two bytes a value\n"
    "  sonde extract model.gguf --texts 'corpus/*.jsonl.zst' --sites blocks.14.hook_resid_post --context 256 "
    "\\\n"
    "      --overflow split --store bf16 --out run/\n"
    "  # a template over columns, and the tokens of one of them\n"
    "  sonde extract model/ --texts facts.tsv --template '{statement} True or false?' --tokens "
    "span:statement:last \\\n"
    "      --sites 'blocks.*.ln2.hook_out' --out run/\n"
    "  # token ids instead of text: {\"ids\": [..]} a line\n"
    "  sonde extract model/ --ids ids.jsonl --sites logits --out run/\n"
    "  # steer: add 4 x a direction after block 10 at the last token\n"
    "  echo '[{\"site\": \"blocks.10.hook_resid_post\", \"op\": \"add\", \"tokens\": \"last\", "
    "\"coefficient\": 4,\n"
    "          \"value\": {\"file\": \"direction.safetensors\", \"tensor\": \"truth\"}}]' > edits.json\n"
    "  sonde extract model/ --texts facts.csv --sites logits --tokens last --edits edits.json --out "
    "steered/\n"
    "  # a Slurm array of eight tasks, then one store\n"
    "  sonde extract model/ --texts big.jsonl --sites 'blocks.*.hook_resid_post' --part "
    "$SLURM_ARRAY_TASK_ID/8 --out part-$SLURM_ARRAY_TASK_ID\n"
    "  sonde store merge run/ part-*\n"
    "  # what would it cost?\n"
    "  sonde extract model/ --texts big.jsonl --sites 'blocks.*.hook_resid_post' --out run/ --dry-run\n"};

po::options_description extract_options() {
  po::options_description o("Options");
  add_input_options(o);
  add_recording_options(o);
  o.add_options()("tokens", po::value<std::string>()->default_value("all"),
                  "all | last | first | 0,3,-1 | every:8 | mask:COLUMN | span:COLUMN[:last]")(
      "max-tokens", po::value<std::int64_t>()->default_value(0),
      "stop after so many tokens of the inputs (0: all)")(
      "part", po::value<std::string>(), "I/N: do the I-th of N shares (I from 0 to N-1 or from 1 to N)")(
      "edits", po::value<std::string>(),
      "JSON file of edits made during the run: [{\"site\": .., \"op\": \"add\", \"tokens\": \"last\", "
      "\"value\": ..}]")("dry-run", "print tokens, bytes, memory and expected time, and stop")(
      "out", po::value<std::string>(), "folder of the store");
  add_model_options(o);
  add_mesh_options(o);
  add_profile_option(o);
  return o;
}

void read_part(const po::variables_map& values, ExtractionOptions& options) {
  if (!values.count("part")) return;
  const auto text = values["part"].as<std::string>();
  int used = 0;
  long long index = -1, of = 0;
  const bool parsed = std::sscanf(text.c_str(), "%lld/%lld%n", &index, &of, &used) == 2 &&
                      used == static_cast<int>(text.size());
  if (!parsed || of < 1 || index < 0 || index > of)
    throw UsageError(fmt::format("--part: found '{}', expected I/N such as 0/8", text));
  options.part =
      index % of;  // counting from 1, the N-th part is part 0: both ways of counting give all N shares
  options.parts = of;
}

void print_dry_run(const ModelSpec& spec, const MeshShape& mesh, const RunPart& run_part,
                   const ModelOptions& model, const ExtractionPlan& plan, const StoreSchema& schema,
                   const std::filesystem::path& out) {
  const TensorShard shard = TensorShard::of(spec, 0, mesh.tensor);
  const double weights = static_cast<double>(parameter_count(spec)) *
                         static_cast<double>(bytes_of(dtype_of(model.precision), 1)) /
                         (mesh.tensor * mesh.pipeline);
  std::int64_t run = 0;  // of the stage that needs most
  for (int stage = 0; stage < mesh.pipeline; ++stage)
    run = std::max(
        run, run_memory(shard.part_of(spec), Stage::of(spec, stage, mesh.pipeline, run_part), plan, schema));
  const double flops = 2.0 * static_cast<double>(block_linear_macs(spec)) * static_cast<double>(plan.tokens);
  const double peak = measure_gemm_peak_gflops(best_cpu_path(), model.precision, thread_count(), 0.2) * 1e9;
  constexpr double kUsualFraction = 0.6;
  fmt::print("tokens         {}\nsequences      {} (longest {})\nbatches        {}\n", plan.tokens,
             plan.sequences.size() - 1, plan.longest, plan.end_batch - plan.first_batch);
  fmt::print("rows           {} at {} sites\n", schema.total_rows, schema.sites.size());
  fmt::print("store          {} in {}\n", human_bytes(static_cast<double>(store_bytes(schema))),
             name(schema.dtype));
  fmt::print("free disk      {}\n", human_bytes(static_cast<double>(free_disk_bytes(out))));
  fmt::print("peak memory    {} ({} of weights)\n", human_bytes(weights + static_cast<double>(run)),
             human_bytes(weights));
  fmt::print("expected time  {} (an estimate: {:.0f} % of the {:.0f} GFLOP/s measured now)\n",
             human_seconds(flops / (kUsualFraction * peak)), 100 * kUsualFraction, peak * 1e-9);
}

struct Run {
  const Model& model;
  Backend& backend;
  const Inputs& inputs;
  const ExtractionOptions& options;
  const ExtractionPlan& plan;
  std::vector<Edit> edits;
};

Outcome run_alone(Run run, const StoreSchema& schema, const std::filesystem::path& out,
                  const std::function<void(const Progress&)>& report) {
  const auto writer = StoreWriter::open(out, schema, store_documents(run.inputs));
  if (writer->committed_rows() > 0)
    fmt::print(stderr, "resuming: {} rows are committed\n", writer->committed_rows());
  return run_extraction(run.model, run.backend, run.inputs, run.options, run.plan, std::move(run.edits),
                        *writer, report);
}

Outcome run_with_others(Run run, const StoreSchema& schema, const std::filesystem::path& out,
                        Communicator& world, const Mesh& mesh,
                        const std::function<void(const Progress&)>& report) {
  agree(world, "the model", run.model.name + " " + run.model.fingerprint, "give every rank the same MODEL");
  agree(world, "what decides the rows",
        fmt::format("sha256 {} over model, inputs, options and compute path ({} rows, path {})",
                    sha256_hex(schema.identity.dump(-1, ' ', false, Json::error_handler_t::replace)),
                    schema.total_rows, schema.identity["compute"]["path"].get<std::string>()),
        "give every rank the same command line, texts and tokenizer");
  Json made_by = describe_rank(mesh, world);
  if (mesh.shape.tensor > 1) made_by["sums"] = run.model.sums;
  std::unique_ptr<SharedStoreWriter> writer;
  if (mesh.writes())
    writer = SharedStoreWriter::open(out, schema, store_documents(run.inputs), part_batch_rows(run.plan),
                                     *mesh.stage, made_by);
  if (writer && mesh.stage->rank() == 0 && writer->committed_rows() > 0)
    fmt::print(stderr, "resuming: {} rows are committed\n", writer->committed_rows());
  return run_shared_extraction(run.model, run.backend, run.inputs, run.options, run.plan,
                               std::move(run.edits), writer.get(), mesh, report);
}

}  // namespace

int run_extract(const Arguments& arguments, Communicator& world) {
  start_profile();
  po::variables_map values;
  if (!parse_options(arguments, kHelp, extract_options(), {"MODEL"}, values)) return 0;
  for (const char* needed : {"sites", "out"})
    if (!values.count(needed))
      throw UsageError(fmt::format("--{} is missing", needed), "--help shows examples");

  const bool speaks = world.rank() == 0;
  const Mesh mesh = lay_out_ranks(values, world, ModelRanks::several);
  const ModelOptions model_options = read_model_options(values, values["MODEL"].as<std::string>());
  const std::filesystem::path out = values["out"].as<std::string>();
  const ModelSpec spec = read_spec(ModelFiles::open(model_options.path), model_options.ignored);
  ExtractionOptions options = read_recording_options(values, spec, values["tokens"].as<std::string>());
  options.max_tokens = at_least(values, "max-tokens", 0);
  read_part(values, options);
  std::string tokenizer_fingerprint;
  const Inputs inputs = read_inputs(values, model_options.path, spec, options.tokens, tokenizer_fingerprint);
  const ExtractionPlan plan = plan_extraction(spec, inputs, options);
  EditFile edits;
  if (values.count("edits")) edits = read_edits(values["edits"].as<std::string>(), spec);
  check_edits(edits.edits, spec, inputs, plan);
  std::vector<Site> looked_at = options.sites;
  for (const Edit& edit : edits.edits) looked_at.push_back(edit.site);
  const RunPart run_part = run_part_of(spec, looked_at, plan.tokens, plan.rows());
  if (values.count("dry-run")) {
    if (speaks)
      print_dry_run(spec, mesh.shape, run_part, model_options, plan,
                    make_schema(spec, inputs, options, plan, {}), out);
    return 0;
  }

  read_weight_formats(values, true);
  catch_stop_signals();
  const auto backend = make_backend(values, out / "algorithms.txt", mesh.local);
  const ModelSpec part = TensorShard::of(spec, mesh.tensor_index, mesh.shape.tensor).part_of(spec);
  const Model model = load_model(model_options, load_options(model_options, run_part, mesh), *backend,
                                 run_needs(part, plan, options.sites));
  say_links(model, speaks);
  if (speaks && model.cut_weights > 0)
    fmt::print(stderr, "{} weights are held expanded: the columns of a rank cut their blocks\n",
               model.cut_weights);
  RunIdentity run = run_identity(model_options, *backend, model);
  run.tokenizer_fingerprint = tokenizer_fingerprint;
  run.edits = edits.json;
  const StoreSchema schema = make_schema(spec, inputs, options, plan, run);
  if (speaks)
    fmt::print(stderr, "{} on {}, {} ({})\n{} documents, {} tokens, {} rows at {} sites, {} as {} in {}\n",
               model.name, backend->describe(), model_options.dtype, run.compute_path, inputs.size(),
               plan.tokens, schema.total_rows, schema.sites.size(),
               human_bytes(static_cast<double>(store_bytes(schema))), name(schema.dtype), out.string());

  const bool alone = world.size() == 1 && !written_by_ranks(out);
  ProgressLine progress;
  std::int64_t tokens_run = 0;
  const auto report = [&](const Progress& p) {
    tokens_run = alone ? p.tokens_done : p.tokens_total;  // of all ranks
    if (speaks) progress(p);
  };
  Run job{model, *backend, inputs, options, plan, std::move(edits.edits)};
  const Outcome outcome = alone ? run_alone(std::move(job), schema, out, report)
                                : run_with_others(std::move(job), schema, out, world, mesh, report);
  write_profile(values, world,
                {{"model", model.name},
                 {"dtype", model_options.dtype},
                 {"path", run.compute_path},
                 {"tokens", tokens_run},
                 {"rows", schema.total_rows},
                 {"sites", schema.sites.size()},
                 {"batches", schema.n_batches},
                 {"shard_rows", schema.shard_rows > 0 ? schema.shard_rows : default_shard_rows(schema)},
                 {"layers", spec.n_layers},
                 {"d_model", spec.d_model},
                 {"store_bytes", store_bytes(schema)}});
  if (!speaks) return outcome == Outcome::complete ? 0 : kStoppedExit;
  progress.finish();
  if (outcome == Outcome::stopped) {
    fmt::print(stderr, "stopped on request, what was done is committed: the same command goes on\n");
    return kStoppedExit;
  }
  fmt::print(stderr, "done: {} rows in {}, {:.0f} tok/s\n", schema.total_rows,
             human_seconds(progress.seconds()), static_cast<double>(tokens_run) / progress.seconds());
  return 0;
}

}  // namespace sonde
