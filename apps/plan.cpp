// sonde plan: what a run would take on a cluster, from a config alone.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "apps/input_options.h"
#include "apps/model_options.h"
#include "apps/plan_options.h"
#include "apps/plan_report.h"
#include "models/family.h"
#include "models/plan/plan.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "plan MODEL_OR_CONFIG (--tokens N | --texts FILE... | --ids FILE...) --sites PATTERNS [options]",
    "What `sonde extract` would take: memory by kind, the best mesh (data x tensor x pipeline) and the "
    "runners-up, "
    "FLOPs,\nbytes over each link and to the disk, hours by phase, with every assumption. A config.json is "
    "enough. "
    "A plan that\ndoes not fit is refused (exit code 1) with what would. Without --gpus the plan is for "
    "CPUs.",
    "  sonde plan config.json --tokens 1e9 --sites 'blocks.*.hook_resid_post' --store bf16 --nodes 8 --gpus "
    "4 "
    "--gpu-memory 80G\n"
    "  # exact tokens and rows of given texts, on this machine, with measured rates\n"
    "  sonde bench model.gguf --store-folder /tmp --json > bench.json\n"
    "  sonde plan model.gguf --texts cities.csv --column statement --select last --sites "
    "'blocks.*.hook_resid_post' "
    "\\\n      --bench bench.json\n"
    "  # four ranks a node on CPUs, two nodes\n"
    "  sonde plan model/ --tokens 1e8 --sites logits --select last --nodes 2 --ranks 4 --threads 8 --memory "
    "256G\n"};

po::options_description plan_options() {
  po::options_description o("Options");
  o.add_options()("tokens", po::value<std::string>(),
                  "so many tokens, 1e9 for example; with --texts or --ids: at most so many")(
      "document-tokens", po::value<std::int64_t>(), "with --tokens alone: tokens of a document (512)")(
      "select", po::value<std::string>()->default_value("all"),
      "tokens that are recorded, as --tokens of extract: all | last | first | 0,3,-1 | every:8 | ...");
  add_input_options(o);
  add_recording_options(o);
  add_cluster_options(o);
  o.add_options()("cache-tokens", po::value<std::int64_t>()->default_value(0),
                  "tokens whose keys and values a rank keeps, for generation")(
      "storage", po::value<std::string>(), "bytes of disk that the store may take")("json", "print JSON");
  add_model_options(o);
  return o;
}

// The documents of the plan: given ones exactly, else as many tokens as asked for.
void fill_work(PlanReport& report, const po::variables_map& values, const std::filesystem::path& model,
               const ModelSpec& spec, ExtractionOptions options) {
  const std::int64_t tokens =
      values.count("tokens") ? parse_count("tokens", values["tokens"].as<std::string>()) : 0;
  if (values.count("texts") + values.count("ids") > 0) {
    if (values.count("document-tokens"))
      throw UsageError("--document-tokens: the given documents have their lengths");
    options.max_tokens = tokens;
    std::string tokenizer;
    const Inputs inputs = read_inputs(values, model, spec, options.tokens, tokenizer);
    const ExtractionPlan plan = plan_extraction(spec, inputs, options);
    report.request.work = work_of(plan, inputs);
    report.request.schema = make_schema(spec, inputs, options, plan, {});
    double bytes = 0;
    for (const std::string& id : inputs.documents.ids) bytes += static_cast<double>(id.size());
    report.document_id_bytes = bytes / static_cast<double>(std::max<std::int64_t>(1, inputs.size()));
    report.documents = "as given";
    return;
  }
  if (tokens == 0)
    throw UsageError("expected --tokens N, --texts FILE or --ids FILE", "--help shows examples");
  const std::int64_t context = options.context > 0 ? options.context : spec.context;
  const std::int64_t length = values.count("document-tokens")
                                  ? at_least(values, "document-tokens", 1)
                                  : std::min<std::int64_t>({512, context, tokens});
  report.request.work = uniform_work(tokens, length, spec, options);
  StoreSchema& schema = report.request.schema;
  const HookSizes sizes = spec.hook_sizes(report.request.work.longest);
  for (const Site site : options.sites)
    schema.sites.push_back({site, name(site), row_shape(site.hook, sizes)});
  schema.dtype = options.store;
  schema.shard_rows = options.shard_rows;
  schema.total_rows = report.request.work.rows;
  schema.n_batches = report.request.work.batches;
  report.documents =
      fmt::format("of {} tokens{}", length, values.count("document-tokens") ? "" : " (assumed)");
}

std::optional<std::int64_t> asked(const po::variables_map& values, const char* option) {
  if (!values.count(option)) return {};
  return at_least(values, option, 1);
}

[[noreturn]] void refuse(const PlanReport& report) {
  const PlanRequest& r = report.request;
  const MeshPlan& least = report.meshes.front();
  std::string ways;
  for (const std::string& way : what_would_fit(r)) ways += (ways.empty() ? "" : "; or ") + way;
  fail_hint(ways.empty() ? "fewer tokens a batch, or larger devices" : "what would fit: " + ways,
            "{}: does not fit: a {} needs {} ({}) on the smallest mesh (data {} x tensor {} x pipeline {}), "
            "found {}",
            report.model, r.machine.gpu ? "GPU" : "rank", describe_bytes(static_cast<double>(least.bytes())),
            describe_memory(least.memory), least.mesh.data, least.mesh.tensor, least.mesh.pipeline,
            describe_bytes(static_cast<double>(r.machine.memory)));
}

}  // namespace

int run_plan(const Arguments& arguments) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, plan_options(), {"MODEL_OR_CONFIG"}, values)) return 0;
  if (!values.count("sites")) throw UsageError("--sites is missing", "--help shows examples");

  ModelOptions model = read_model_options(values, values["MODEL_OR_CONFIG"].as<std::string>());
  if (plans_gpus(values) && values["dtype"].as<std::string>() == "auto")
    model.dtype = "bf16", model.precision = Precision::bf16;
  const ModelFiles files = ModelFiles::open_config(model.path);
  const ModelSpec spec = read_spec(files, model.ignored);

  PlanReport report;
  report.model = files.name();
  report.dtype = model.dtype;
  PlanRequest& request = report.request;
  request.spec = &spec;
  fill_work(report, values, files.path(), spec,
            read_recording_options(values, spec, values["select"].as<std::string>()));
  request.machine = read_machine(values, {files, spec, request.work, model.precision, model.in_memory});
  request.memory.precision = model.precision;
  request.memory.gpu = request.machine.gpu;
  request.memory.cache_tokens = at_least(values, "cache-tokens", 0);
  measure_files(request, files, spec, model.in_memory);
  request.tensor = asked(values, "tensor-parallel");
  request.pipeline = asked(values, "pipeline-parallel");

  report.meshes = plan_meshes(request);
  if (report.meshes.empty())
    throw UsageError(fmt::format("{} ranks cannot be laid out as tensor {} x pipeline {} on {} layers",
                                 request.machine.ranks(), request.tensor.value_or(1),
                                 request.pipeline.value_or(1), spec.n_layers),
                     "their product must divide the ranks");
  if (!report.meshes.front().fits) refuse(report);
  const StorePlan store = report.store();
  if (values.count("storage"))
    if (const double room = parse_bytes("storage", values["storage"].as<std::string>()); store.total() > room)
      fail_hint(fmt::format("--storage {:.2g}T, fewer sites, --select last, or --store bf16 (half of f32)",
                            store.total() * 1.05e-12),
                "{}: the store takes {}, found {}", report.model, describe_bytes(store.total()),
                describe_bytes(room));
  if (values.count("json"))
    fmt::print("{}\n", to_json(report).dump(2, ' ', false, Json::error_handler_t::replace));
  else
    print(report);
  return 0;
}

}  // namespace sonde
