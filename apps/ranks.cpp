#include "apps/ranks.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>

#include "distributed/agreement.h"
#include "io/hash.h"
#include "kernels/devices.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// The cores this process may run on, as a list that can be compared: "0,1,5".
std::string allowed_cores(int& count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::string list;
  count = 0;
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    return list;  // more cores than a cpu_set_t: OpenMP decides
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) {
      list += fmt::format("{}{}", count > 0 ? "," : "", core);
      ++count;
    }
  return list;
}

int positive_variable(const char* name) {
  const char* text = std::getenv(name);
  const int value = text ? std::atoi(text) : 0;
  return value > 0 ? value : 0;
}

// What the user or the batch system says; else this process's cores, shared among the ranks that have the
// same.
int choose_threads(int cores, int sharing) {
  if (positive_variable("OMP_NUM_THREADS") > 0) return thread_count();
  if (const int given = positive_variable("SLURM_CPUS_PER_TASK"); given > 0) return given;
  return cores > 0 ? std::max(1, cores / sharing) : thread_count();
}

int mesh_size(const po::variables_map& values, const char* option, int automatic, int most) {
  const auto text = values[option].as<std::string>();
  if (text == "auto") return automatic;
  int size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (error != std::errc{} || end != text.data() + text.size() || size < 1 || size > most)
    throw UsageError(fmt::format("--{}: found '{}', expected auto or {}", option, text,
                                 most == 1 ? "1" : fmt::format("1 to {}, the ranks", most)));
  return size;
}

void print_layout(const std::vector<Json>& ranks, const MeshShape& shape) {
  fmt::print(stderr, "{} ranks: {}\n{:>6}  {:<24} {:>5} {:>10} {:>12} {:>8}  {}\n", ranks.size(),
             shape.describe(), "rank", "host", "local", "device", "path", "threads", "cores");
  for (const Json& rank : ranks) {
    std::string cores = rank["cores"].get<std::string>();
    if (cores.size() > 40) cores = fmt::format("{} of them", rank["n_cores"].get<int>());
    fmt::print(stderr, "{:>6}  {:<24} {:>5} {:>10} {:>12} {:>8}  {}\n", rank["rank"].get<int>(),
               rank["host"].get<std::string>(), rank["local"].get<int>(), rank["device"].get<std::string>(),
               rank["path"].get<std::string>(), rank["threads"].get<int>(), cores);
  }
}

std::string host() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::vector<Json> gather(Communicator& world, const Json& mine) {
  std::vector<Json> all;
  for (const std::string& one : world.gather_bytes(mine.dump()))
    all.push_back(parse_json(one, "a rank's description"));
  return all;
}

}  // namespace

void add_mesh_options(po::options_description& options) {
  options.add_options()("tensor-parallel", po::value<std::string>()->default_value("auto"),
                        "consecutive ranks that share a model's heads, neurons, experts and vocabulary; the "
                        "rest of the ranks is data parallel (auto: 1)")(
      "pipeline-parallel", po::value<std::string>()->default_value("auto"),
      "groups of such ranks that have some of a model's layers each; batches flow from one to the next "
      "(auto: 1)");
}

Mesh lay_out_ranks(const po::variables_map& values, Communicator& world, ModelRanks model) {
  const int most = model == ModelRanks::one ? 1 : world.size();
  const int pipeline = mesh_size(values, "pipeline-parallel", 1, most);
  const int tensor = mesh_size(values, "tensor-parallel",
                               model == ModelRanks::all ? std::max(1, world.size() / pipeline) : 1, most);
  if (model == ModelRanks::all && tensor * pipeline != world.size())
    throw UsageError(
        fmt::format("--tensor-parallel {} and --pipeline-parallel {}: found {} of {} ranks, expected all",
                    tensor, pipeline, tensor * pipeline, world.size()),
        "one model runs here, on all ranks; start as many ranks as it is to have");
  if (world.size() == 1) return Mesh::make(world, tensor, pipeline);
  agree(world, "the sonde binary", "sha256 " + sha256_file("/proc/self/exe"),
        "install the same build on every node");

  Json mine = {{"rank", world.rank()}, {"host", host()}};
  int cores = 0;
  mine["cores"] = allowed_cores(cores);
  mine["n_cores"] = cores;
  const auto path = static_cast<std::int64_t>(best_cpu_path());
  const auto common = static_cast<CpuPath>(world.all_reduce(path, Reduce::min));
  if (common != best_cpu_path()) setenv("SONDE_CPU_PATH", std::string(name(common)).c_str(), 1);
  mine["path"] = name(best_cpu_path());

  const std::vector<Json> others = gather(world, mine);
  int sharing = 0, local = 0;
  for (const Json& other : others) {
    if (other["host"] != mine["host"]) continue;
    if (other["rank"].get<int>() < world.rank()) ++local;
    if (other["cores"] == mine["cores"]) ++sharing;
  }
  set_thread_count(choose_threads(cores, sharing));
  mine["local"] = local;
  mine["device"] = device_name(values["device"].as<std::string>(), local);
  mine["threads"] = thread_count();
  const std::vector<Json> all = gather(world, mine);
  Mesh mesh = Mesh::make(world, tensor, pipeline);
  mesh.local = local;
  if (world.rank() == 0) print_layout(all, mesh.shape);
  return mesh;
}

int ranks_here(Communicator& world) {
  const std::vector<std::string> hosts = world.gather_bytes(host());
  return static_cast<int>(std::ranges::count(hosts, host()));
}

Json describe_rank(const Mesh& mesh, const Communicator& world) {
  return {{"rank", world.rank()},
          {"data", mesh.shape.data},
          {"tensor", mesh.shape.tensor},
          {"pipeline", mesh.shape.pipeline}};
}

}  // namespace sonde
