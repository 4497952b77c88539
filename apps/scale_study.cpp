// sonde scale-study: the same extraction on growing numbers of ranks, beside what sonde plan predicts.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "apps/child_process.h"
#include "apps/input_options.h"
#include "apps/model_options.h"
#include "apps/plan_options.h"
#include "io/file_util.h"
#include "io/html_scaling.h"
#include "models/family.h"
#include "models/plan/plan.h"
#include "runtime/error.h"
#include "runtime/profile.h"
#include "runtime/traffic.h"

namespace sonde {
namespace {

using std::filesystem::path;

const Help kHelp = {
    "scale-study MODEL --ranks 1,2,4 --out DIR [options]",
    "Runs `sonde extract` on random tokens with each number of ranks, in turns: strong scaling (the same "
    "documents) "
    "and\nweak scaling (documents grow with the ranks). DIR/scaling.csv and DIR/report.html hold speed-up, "
    "efficiency, time by\nphase, and the planner's prediction from a `sonde bench` of as many ranks at once. "
    "Ranks are started by srun inside a Slurm job,\nelse by mpiexec.",
    "  sonde scale-study model.gguf --ranks 1,2 --out scaling/\n"
    "  sonde scale-study model/ --ranks 1,2,4 --threads 4 --tokens 100000 --repeats 5 --out scaling/\n"
    "  # another launcher; {ranks} becomes the number\n"
    "  sonde scale-study model/ --ranks 8,16,32 --launcher 'srun --mpi=pmi2 -n {ranks}' --out scaling/\n"};

po::options_description study_options() {
  po::options_description o("Options");
  o.add_options()("ranks", po::value<std::string>()->default_value("1,2,4"), "numbers of ranks, ascending")(
      "out", po::value<std::string>(), "folder of the results")(
      "tokens", po::value<std::string>()->default_value("16384"),
      "tokens: of all ranks (strong), of each (weak)")(
      "document-tokens", po::value<std::int64_t>()->default_value(128), "tokens of a document")(
      "sites,site", po::value<std::string>()->default_value("blocks.*.hook_resid_post"), "points to record")(
      "store", po::value<std::string>()->default_value("f32"), "f32 | bf16 | f16: values in the store")(
      "batch-tokens", po::value<std::int64_t>()->default_value(2048), "token budget of a batch")(
      "threads", po::value<std::int64_t>()->default_value(1), "threads of a rank")(
      "repeats", po::value<std::int64_t>()->default_value(3), "runs of each point; medians count")(
      "launcher", po::value<std::string>(), "command that starts ranks, {ranks} in it")(
      "tensor-parallel", po::value<std::string>()->default_value("auto"), "as for extract")(
      "pipeline-parallel", po::value<std::string>()->default_value("auto"), "as for extract");
  add_model_options(o);
  return o;
}

std::vector<int> parse_ranks(const std::string& text) {
  std::vector<int> ranks;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::int64_t n = parse_count("ranks", text.substr(begin, end - begin));
    if (n > 1 << 20 || (!ranks.empty() && n <= ranks.back()))
      throw UsageError(fmt::format("--ranks: found '{}', expected ascending numbers such as 1,2,4", text));
    ranks.push_back(static_cast<int>(n));
    begin = end + 1;
  }
  return ranks;
}

std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; (at = text.find_first_not_of(' ', at)) != std::string::npos;) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

struct Study {
  const po::variables_map& values;
  const ModelFiles& files;
  const ModelSpec& spec;
  path out, model;
  std::vector<int> ranks;
  std::int64_t tokens, document_tokens, threads;
  ExtractionOptions options;
  Precision precision;
  std::string dtype;
  WeightsInMemory in_memory;

  std::vector<std::string> launcher(int n) const {
    std::string text = "mpiexec -n {ranks}";
    if (values.count("launcher"))
      text = values["launcher"].as<std::string>();
    else if (std::getenv("SLURM_JOB_ID") != nullptr)
      text = "srun --mpi=pmix --kill-on-bad-exit=1 -n {ranks}";
    const std::size_t at = text.find("{ranks}");
    if (at == std::string::npos)
      throw UsageError(fmt::format("--launcher: found '{}', expected {{ranks}} in it", text));
    return split_words(text.replace(at, 7, std::to_string(n)));
  }
};

std::map<std::string, std::string> environment_of(const Study& study, int ranks) {
  std::map<std::string, std::string> variables = {{"OMP_NUM_THREADS", std::to_string(study.threads)},
                                                  {"OMPI_MCA_hwloc_base_binding_policy", "none"},
                                                  {"OMPI_MCA_rmaps_base_oversubscribe", "1"}};
  if (ranks * study.threads > static_cast<std::int64_t>(std::thread::hardware_concurrency()))
    variables["OMPI_MCA_mpi_yield_when_idle"] = "1";
  if (geteuid() == 0)  // Open MPI wants to be told twice
    variables["OMPI_ALLOW_RUN_AS_ROOT"] = variables["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  return variables;
}

path ids_file(const Study& study, std::int64_t tokens) {
  return study.out / fmt::format("ids-{}.jsonl", tokens);
}

void write_ids(const Study& study, std::int64_t tokens) {
  std::mt19937 generator(1);
  std::string lines;
  for (std::int64_t left = tokens; left > 0; left -= study.document_tokens) {
    lines += "{\"ids\":[";
    for (std::int64_t t = 0; t < std::min(left, study.document_tokens); ++t)
      lines +=
          (t > 0 ? "," : "") + std::to_string(generator() % static_cast<std::uint64_t>(study.spec.vocab));
    lines += "]}\n";
  }
  write_file_atomically(ids_file(study, tokens), lines);
}

std::vector<std::string> shared_options(const Study& study) {
  std::vector<std::string> options = {"--dtype", study.dtype};
  for (const char* name : {"device", "weights", "weights-in-memory", "sites"})
    options.insert(options.end(), {fmt::format("--{}", name), study.values[name].as<std::string>()});
  for (const std::string& key : study.values.count("ignore-config-key")
                                    ? study.values["ignore-config-key"].as<std::vector<std::string>>()
                                    : std::vector<std::string>())
    options.insert(options.end(), {"--ignore-config-key", key});
  options.insert(options.end(), {"--batch-tokens", std::to_string(study.options.batch_tokens)});
  return options;
}

[[noreturn]] void refuse_ranks(const path& file, std::size_t found, int expected) {
  fail_hint("the launcher and this sonde must use the same MPI", "{}: found {} ranks in a run of {}",
            file.string(), found, expected);
}

// One extraction; the profile that its ranks wrote.
Json run_once(const Study& study, int ranks, std::int64_t tokens) {
  const path store = study.out / "store", profile = study.out / "profile.json";
  std::filesystem::remove_all(store);
  std::vector<std::string> command = study.launcher(ranks);
  command.insert(
      command.end(),
      {own_program(), "extract", study.model.string(), "--ids", ids_file(study, tokens).string(), "--store",
       study.values["store"].as<std::string>(), "--out", store.string(), "--profile", profile.string()});
  for (const char* name : {"tensor-parallel", "pipeline-parallel"})
    command.insert(command.end(), {fmt::format("--{}", name), study.values[name].as<std::string>()});
  const std::vector<std::string> shared = shared_options(study);
  command.insert(command.end(), shared.begin(), shared.end());
  run_child(command, environment_of(study, ranks), study.out / "run.log",
            "is MPI installed? --launcher names what starts ranks here");
  Json result = read_json(profile);
  if (result["ranks"].size() != static_cast<std::size_t>(ranks))
    refuse_ranks(profile, result["ranks"].size(), ranks);
  std::filesystem::remove_all(store);
  std::filesystem::remove(profile);
  return result;
}

// The rates of a rank while so many are at work, by sonde bench.
Machine measure_ranks(const Study& study, int ranks) {
  const path file = study.out / fmt::format("bench-{}.json", ranks);
  std::vector<std::string> command = study.launcher(ranks);
  const std::int64_t documents = std::max<std::int64_t>(1, 4096 / study.document_tokens);
  command.insert(command.end(),
                 {own_program(), "bench", study.model.string(), "--tokens",
                  std::to_string(study.document_tokens), "--documents", std::to_string(documents),
                  "--repeats", "3", "--store-folder", study.out.string(), "--out", file.string()});
  const std::vector<std::string> shared = shared_options(study);
  command.insert(command.end(), shared.begin(), shared.end());
  run_child(command, environment_of(study, ranks), study.out / "run.log",
            "is MPI installed? --launcher names what starts ranks here");
  const Json bench = read_json(file);
  if (const auto found = bench["ranks"].get<std::size_t>(); found != static_cast<std::size_t>(ranks))
    refuse_ranks(file, found, ranks);
  Machine machine = cpu_machine("this machine", 1, 1, "measured");
  use_bench(machine, bench, file.string());
  machine.memory = std::int64_t{1} << 60;
  machine.ranks_per_node = std::min<std::int64_t>(machine.measured_ranks, ranks);
  machine.nodes = (ranks + machine.ranks_per_node - 1) / machine.ranks_per_node;
  return machine;
}

MeshPlan predict(const Study& study, const Machine& machine, int ranks, std::int64_t tokens) {
  PlanRequest request;
  request.spec = &study.spec;
  request.work = uniform_work(tokens, study.document_tokens, study.spec, study.options);
  for (const Site site : study.options.sites)
    request.schema.sites.push_back(
        {site, name(site), row_shape(site.hook, study.spec.hook_sizes(request.work.longest))});
  request.schema.dtype = study.options.store;
  request.schema.total_rows = request.work.rows;
  request.schema.n_batches = request.work.batches;
  request.memory.precision = study.precision;
  measure_files(request, study.files, study.spec, study.in_memory);
  request.machine = machine;
  const auto size = [&](const char* option) {
    const auto text = study.values[option].as<std::string>();
    return text == "auto" ? 1 : parse_count(option, text);
  };
  const std::int64_t tensor = size("tensor-parallel"), pipeline = size("pipeline-parallel");
  return plan_mesh(request, {ranks / (tensor * pipeline), tensor, pipeline});
}

constexpr Phase kShown[] = {Phase::gemm,    Phase::attention, Phase::rows, Phase::communication,
                            Phase::capture, Phase::io,        Phase::idle};

double phase_of(const Json& rank, Phase phase) {
  return rank["seconds"][std::string(name(phase))].get<double>();
}

// Seconds of a rank from when its model is loaded.
double work_seconds(const Json& rank) {
  double seconds = 0;
  for (const Phase phase : kShown) seconds += phase_of(rank, phase);
  return seconds;
}

struct Measured {
  double seconds = 0, wall = 0, load = 0, memory = 0;  // of the slowest, the largest rank
  std::vector<double> phases;                          // mean over ranks
  std::vector<double> bytes;  // by axis, sent or received by the rank that exchanges most
};

Measured measured(const Json& profile) {
  Measured m;
  m.phases.assign(std::size(kShown), 0);
  m.bytes.assign(kAxes, 0);
  for (const Json& rank : profile["ranks"]) {
    m.seconds = std::max(m.seconds, work_seconds(rank));
    m.wall = std::max(m.wall, rank["wall_seconds"].get<double>());
    m.load = std::max(m.load, phase_of(rank, Phase::load));
    m.memory = std::max(m.memory, rank["peak_memory_bytes"].get<double>());
    for (std::size_t a = 0; a < m.bytes.size(); ++a) {
      const Json& bytes = rank["bytes"][std::string(name(static_cast<Axis>(a)))];
      m.bytes[a] = std::max({m.bytes[a], bytes["sent"].get<double>(), bytes["received"].get<double>()});
    }
    for (std::size_t i = 0; i < m.phases.size(); ++i)
      m.phases[i] += phase_of(rank, kShown[i]) / static_cast<double>(profile["ranks"].size());
  }
  return m;
}

Measured median(std::vector<Measured> runs) {
  std::ranges::sort(runs, {}, &Measured::seconds);
  return runs[runs.size() / 2];
}

struct Series {
  const char *name, *meaning;
  bool weak;
  std::vector<std::vector<Measured>> runs;  // [ranks][repeats]
};

ScalingSeries summarise(const Study& study, const Series& series, const std::vector<Machine>& machines,
                        std::string& csv) {
  ScalingSeries result{series.name, series.meaning, {}};
  double first = 0, first_predicted = 0;
  for (std::size_t i = 0; i < study.ranks.size(); ++i) {
    const int ranks = study.ranks[i];
    const std::int64_t tokens = series.weak ? study.tokens * ranks : study.tokens;
    const Measured m = median(series.runs[i]);
    const MeshPlan plan = predict(study, machines[i], ranks, tokens);
    const double predicted = plan.seconds.work();
    const double rate = static_cast<double>(tokens) / m.seconds,
                 predicted_rate = static_cast<double>(tokens) / predicted;
    if (i == 0) first = rate, first_predicted = predicted_rate;
    const double growth = static_cast<double>(ranks) / study.ranks[0];
    ScalingPoint point{ranks,
                       m.seconds,
                       predicted,
                       rate / first,
                       rate / first / growth,
                       predicted_rate / first_predicted,
                       predicted_rate / first_predicted / growth,
                       rate,
                       m.phases,
                       m.bytes,
                       {0, plan.links.tensor, plan.links.pipeline}};
    csv +=
        fmt::format("{},{},{},{},{:.4f},{:.4f},{:.1f},{:.4f},{:.4f},{:.4f}", series.name, ranks,
                    study.threads, tokens, m.wall, m.seconds, rate, point.speedup, point.efficiency, m.load);
    for (const double s : m.phases) csv += fmt::format(",{:.4f}", s);
    csv += fmt::format(",{:.0f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{}", m.memory, predicted,
                       point.predicted_speedup, plan.seconds.load, plan.seconds.forward,
                       plan.seconds.communication, plan.seconds.capture, plan.bytes());
    for (const auto* bytes : {&point.bytes, &point.predicted_bytes})
      for (const double n : *bytes) csv += fmt::format(",{:.0f}", n);
    csv += "\n";
    result.points.push_back(std::move(point));
  }
  return result;
}

std::string csv_head() {
  std::string head = "scaling,ranks,threads,tokens,wall_s,work_s,tokens_per_s,speedup,efficiency,load_s";
  for (const Phase phase : kShown) head += fmt::format(",{}_s", name(phase));
  head +=
      ",peak_memory_bytes,predicted_work_s,predicted_speedup,predicted_load_s,predicted_forward_s,"
      "predicted_communication_s,predicted_capture_s,predicted_memory_bytes";
  for (const char* which : {"", "predicted_"})
    for (int a = 0; a < kAxes; ++a) head += fmt::format(",{}{}_bytes", which, name(static_cast<Axis>(a)));
  return head + "\n";
}

}  // namespace

int run_scale_study(const Arguments& arguments) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, study_options(), {"MODEL"}, values)) return 0;
  if (!values.count("out")) throw UsageError("--out is missing", "--help shows examples");
  const ModelOptions model = read_model_options(values, values["MODEL"].as<std::string>());
  const ModelFiles files = ModelFiles::open(model.path);
  const ModelSpec spec = read_spec(files, model.ignored);

  Study study{values,
              files,
              spec,
              values["out"].as<std::string>(),
              std::filesystem::absolute(model.path),
              parse_ranks(values["ranks"].as<std::string>()),
              parse_count("tokens", values["tokens"].as<std::string>()),
              at_least(values, "document-tokens", 1),
              at_least(values, "threads", 1),
              {},
              model.precision,
              model.dtype,
              model.in_memory};
  const std::int64_t repeats = at_least(values, "repeats", 1);
  if (study.document_tokens > spec.context)
    throw UsageError(fmt::format("--document-tokens: found {}, expected at most the model's {}",
                                 study.document_tokens, spec.context));
  study.options.sites =
      match_sites(values["sites"].as<std::string>(), spec.sites(), static_cast<int>(spec.n_layers));
  study.options.tokens = TokenSelector::parse("all");
  study.options.store = parse_store_dtype(values);
  study.options.batch_tokens = at_least(values, "batch-tokens", 1);
  std::filesystem::create_directories(study.out);
  study.out = std::filesystem::absolute(study.out);
  study.launcher(1);  // a mistake in it is found now

  std::vector<Series> all = {{"strong", "The same documents for any number of ranks.", false, {}},
                             {"weak", "As many documents for each rank as one rank has alone.", true, {}}};
  for (const Series& series : all)
    for (const int ranks : study.ranks) write_ids(study, series.weak ? study.tokens * ranks : study.tokens);
  std::vector<Machine> machines;  // of each number of ranks
  for (const int ranks : study.ranks) {
    fmt::print(stderr, "the rates of {} rank{} at once: sonde bench\n", ranks, ranks == 1 ? "" : "s");
    machines.push_back(measure_ranks(study, ranks));
  }
  for (Series& series : all) series.runs.resize(study.ranks.size());
  for (std::int64_t repeat = 0; repeat < repeats; ++repeat)
    for (std::size_t i = 0; i < study.ranks.size(); ++i)
      for (Series& series : all) {
        const int ranks = study.ranks[i];
        const std::int64_t tokens = series.weak ? study.tokens * ranks : study.tokens;
        series.runs[i].push_back(measured(run_once(study, ranks, tokens)));
        fmt::print(stderr, "run {} of {}: {} scaling, {} rank{}: {:.2f} s, {:.0f} tokens/s\n", repeat + 1,
                   repeats, series.name, ranks, ranks == 1 ? "" : "s", series.runs[i].back().seconds,
                   static_cast<double>(tokens) / series.runs[i].back().seconds);
      }

  ScalingReport report;
  report.title = "How " + model.path.stem().string() + " scales with its ranks";
  report.facts = {
      {"threads of a rank", std::to_string(study.threads)},
      {"cores of this machine", std::to_string(std::thread::hardware_concurrency())},
      {"tokens", std::to_string(study.tokens)},
      {"tokens of a document", std::to_string(study.document_tokens)},
      {"sites", fmt::format("{} ({})", values["sites"].as<std::string>(), study.options.sites.size())},
      {"precision", study.dtype},
      {"store", values["store"].as<std::string>()},
      {"repeats", std::to_string(repeats)}};
  for (const Phase phase : kShown) report.phases.emplace_back(name(phase));
  for (int a = 0; a < kAxes; ++a) report.axes.emplace_back(name(static_cast<Axis>(a)));
  std::string csv = csv_head();
  for (const Series& series : all) report.series.push_back(summarise(study, series, machines, csv));
  write_file_atomically(study.out / "scaling.csv", csv);
  write_scaling_report(study.out / "report.html", report);
  for (const Series& series : all)
    for (const int ranks : study.ranks)
      std::filesystem::remove(ids_file(study, series.weak ? study.tokens * ranks : study.tokens));
  std::filesystem::remove(study.out / "run.log");
  fmt::print("{}", csv);
  return 0;
}

}  // namespace sonde
