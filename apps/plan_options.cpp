#include "apps/plan_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "apps/bench_rates.h"
#include "models/family.h"
#include "runtime/error.h"
#include "runtime/memory.h"

namespace sonde {
namespace {

std::int64_t whole(const po::variables_map& values, const char* option, std::int64_t least) {
  const auto value = values[option].as<std::int64_t>();
  if (value < least)
    throw UsageError(fmt::format("--{}: found {}, expected at least {}", option, value, least));
  return value;
}

void read_bench(const po::variables_map& values, Machine& machine) {
  if (!values.count("bench")) return;
  const auto file = values["bench"].as<std::string>();
  use_bench(machine, read_json(file), file);
  if (machine.measured_ranks != machine.ranks_per_node)
    fmt::print(
        stderr,
        "sonde: warning: {}: measured by {} rank{} of a node at once, the plan has {} on a node, which "
        "share caches and memory. HINT: mpiexec -n {} sonde bench ...\n",
        file, machine.measured_ranks, machine.measured_ranks == 1 ? "" : "s", machine.ranks_per_node,
        machine.ranks_per_node);
}

Machine read_gpus(const po::variables_map& values, Precision precision) {
  const bool given = values.count("gpu-memory") > 0;
  const double memory = given ? parse_bytes("gpu-memory", values["gpu-memory"].as<std::string>()) : 0;
  std::string kind = values.count("gpu") ? values["gpu"].as<std::string>() : "";
  if (kind.empty()) kind = memory > 96e9 ? "H200" : "H100";
  Machine machine = gpu_machine(find_gpu(kind), precision);
  if (given) machine.memory = static_cast<std::int64_t>(memory);
  machine.ranks_per_node = whole(values, "gpus", 1);
  read_bench(values, machine);
  return machine;
}

std::int64_t cores_of(const po::variables_map& values) {
  if (values.count("cores")) return whole(values, "cores", 1);
  return std::max<std::int64_t>(1, std::thread::hardware_concurrency());
}

// What this machine does now, by as many ranks at once as the plan puts on a node, if it can hold them; else
// by those that its cores hold.
void measure_cpus(Machine& machine, const PlannedRun& run, std::int64_t threads, std::int64_t cores) {
  const std::int64_t here = std::max<std::int64_t>(1, std::thread::hardware_concurrency()),
                     ranks = machine.ranks_per_node, used = std::min(threads, here);
  const bool alike = cores == here && ranks * threads <= 4 * here;
  const std::int64_t measured = alike ? ranks : std::max<std::int64_t>(1, std::min(ranks, here / used));
  use_bench(machine,
            quick_rates({run.files, run.spec, run.in_memory}, run.work, run.precision,
                        {static_cast<int>(measured), static_cast<int>(used)}),
            "one layer, on this machine now");
  if (used == threads) return;
  const double more = static_cast<double>(threads) / static_cast<double>(used);
  for (Assumption* rate : {&machine.products, &machine.attention, &machine.rows, &machine.weights}) {
    rate->value *= more;
    rate->source += fmt::format(", x {:.2g}: {} threads for {}", more, threads, used);
  }
  machine.attention_query.value /= more;
}

// CPUs as this machine's, unless a bench tells of others: cores shared by the ranks of a node.
Machine read_cpus(const po::variables_map& values, const PlannedRun& run) {
  const std::int64_t ranks = whole(values, "ranks", 1), cores = cores_of(values);
  const auto threads =
      values.count("threads") ? whole(values, "threads", 1) : std::max<std::int64_t>(1, cores / ranks);
  Machine machine = cpu_machine(fmt::format("CPU, {} thread{} a rank", threads, threads == 1 ? "" : "s"),
                                100e9 * static_cast<double>(threads), 10e9, "assumed");
  machine.ranks_per_node = ranks;
  if (ranks * whole(values, "nodes", 1) > 1)
    machine.start = {"start", 0.6, "s", "assumed: the launcher, the tokenizer"};
  const std::int64_t free = available_memory_bytes();  // -1: unknown, no reason to refuse
  const double memory = values.count("memory") ? parse_bytes("memory", values["memory"].as<std::string>())
                                               : static_cast<double>(free < 0 ? std::int64_t{1} << 60 : free);
  machine.memory = static_cast<std::int64_t>(memory / static_cast<double>(ranks));
  if (values.count("bench"))
    read_bench(values, machine);
  else
    measure_cpus(machine, run, threads, cores);
  share_cores(machine, threads, cores);
  return machine;
}

}  // namespace

void add_cluster_options(po::options_description& options) {
  options.add_options()("nodes", po::value<std::int64_t>()->default_value(1), "nodes")(
      "gpus", po::value<std::int64_t>(), "GPUs a node, one rank each; without it the plan is for CPUs")(
      "gpu", po::value<std::string>(), "A100 | H100 | H200 | L40S: peaks from the makers' data sheets")(
      "gpu-memory", po::value<std::string>(), "memory of a GPU, 80G for example")(
      "ranks", po::value<std::int64_t>()->default_value(1), "CPUs: ranks a node")(
      "threads", po::value<std::int64_t>(),
      "CPUs: threads a rank (this machine's cores, shared by the ranks)")(
      "cores", po::value<std::int64_t>(), "CPUs: cores of a node (this machine's)")(
      "memory", po::value<std::string>(), "CPUs: memory of a node (what is free on this machine)")(
      "bench", po::value<std::string>(),
      "JSON of `[mpiexec -n RANKS] sonde bench ... --json` on such a node with as many ranks and threads: "
      "its "
      "rates replace what is assumed, or measured now")("filesystem", po::value<std::string>(),
                                                        "bytes/s that all ranks together read and write")(
      "network", po::value<std::string>(), "bytes/s that a rank sends to another node")(
      "tensor-parallel", po::value<std::int64_t>(), "only meshes of this tensor size")(
      "pipeline-parallel", po::value<std::int64_t>(), "only meshes of this pipeline size");
}

bool plans_gpus(const po::variables_map& values) {
  return values.count("gpus") + values.count("gpu") + values.count("gpu-memory") > 0;
}

Machine read_machine(const po::variables_map& values, const PlannedRun& run) {
  const bool gpus = plans_gpus(values);
  if (gpus && !values.count("gpus"))
    throw UsageError("--gpus is missing", "how many GPUs has a node? --gpus 4");
  Machine machine = gpus ? read_gpus(values, run.precision) : read_cpus(values, run);
  machine.nodes = whole(values, "nodes", 1);
  for (const auto& [option, rate] :
       {std::pair{"filesystem", &machine.filesystem}, std::pair{"network", &machine.network}})
    if (values.count(option)) {
      rate->value = parse_bytes(option, values[option].as<std::string>());
      rate->source = fmt::format("--{}", option);
    }
  return machine;
}

void measure_files(PlanRequest& request, const ModelFiles& files, const ModelSpec& spec,
                   WeightsInMemory in_memory) {
  if (files.tensors().empty()) {
    const Json& config = files.config();
    const Json dtype = config.value("dtype", config.value("torch_dtype", Json("bfloat16")));
    request.memory.embed_bytes = dtype == "float32" ? 4 : 2;
    request.model_bytes =
        static_cast<double>(request.memory.embed_bytes) * static_cast<double>(parameter_count(spec));
  } else {
    for (const FileTensor& t : files.tensors())
      request.model_bytes += static_cast<double>(bytes_of(t.view.dtype, t.view.count()));
    const std::vector<TensorRow> table = tensors_of(files, spec);
    check_tensors(files, table, spec);
    const Tensor& embed = find_tensor(files, table.front(), 0).view;
    request.memory.embed_bytes =
        std::max<std::int64_t>(1, bytes_of(embed.dtype, embed.count()) / embed.count());
    double values = 0, kept = 0, bytes = 0;
    for (const TensorRow& row : table) {
      if (!is_block_linear(row.part)) continue;
      const DType dtype = find_tensor(files, row, spec.n_experts).view.dtype;
      const std::int64_t count = row.shape[0] * row.shape[1];
      values += static_cast<double>(count);
      if (!is_quantised(dtype)) continue;
      kept += static_cast<double>(count);
      bytes += static_cast<double>(bytes_of(dtype, count));
    }
    if (in_memory == WeightsInMemory::quantised && kept > 0)
      request.memory.kept = kept / values, request.memory.kept_bytes = bytes / kept;
  }
  request.memory.file_bytes = static_cast<std::int64_t>(request.model_bytes);
}

std::int64_t parse_count(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= 1 && value <= 1e18) || value != std::floor(value))
    throw UsageError(fmt::format("--{}: found '{}', expected a whole number such as 1e9", option, text));
  return static_cast<std::int64_t>(value);
}

double parse_bytes(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  std::string unit(end);
  if (unit.ends_with("B")) unit.pop_back();
  const bool binary = unit.size() == 2 && unit[1] == 'i';
  const std::string prefixes = "kMGT";
  const auto at = unit.empty() ? std::string::npos : prefixes.find(unit[0] == 'K' ? 'k' : unit[0]);
  const bool known = unit.empty() || (at != std::string::npos && (unit.size() == 1 || binary));
  const double bytes =
      known ? value * std::pow(binary ? 1024 : 1000, unit.empty() ? 0 : static_cast<double>(at + 1)) : 0;
  if (end == text.c_str() || !known || !(bytes >= 1 && bytes < 1e18))
    throw UsageError(fmt::format("--{}: found '{}', expected bytes such as 80G or 1.5T", option, text));
  return bytes;
}

}  // namespace sonde
