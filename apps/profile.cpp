#include "apps/profile.h"

#include <fmt/format.h>

#include <string>

#include "io/file_util.h"
#include "runtime/cpu.h"
#include "runtime/memory.h"
#include "runtime/profile.h"
#include "runtime/traffic.h"

namespace sonde {

void add_profile_option(po::options_description& options) {
  options.add_options()("profile", po::value<std::string>(),
                        "JSON file: seconds of every rank by phase (load, gemm, attention, ...), its peak "
                        "memory, and the bytes "
                        "that it exchanged along each axis of the mesh");
}

void start_profile() { phase_seconds(); }

void write_profile(const po::variables_map& values, Communicator& world, Json facts) {
  if (!values.count("profile")) return;
  const PhaseSeconds seconds = phase_seconds();
  Json mine = {{"rank", world.rank()},
               {"threads", thread_count()},
               {"peak_memory_bytes", peak_memory_bytes()},
               {"seconds", Json::object()}};
  double wall = 0;
  for (int p = 0; p < kPhases; ++p) {
    mine["seconds"][std::string(name(static_cast<Phase>(p)))] = seconds[static_cast<std::size_t>(p)];
    wall += seconds[static_cast<std::size_t>(p)];
  }
  mine["wall_seconds"] = wall;
  const auto bytes = traffic();
  for (int a = 0; a < kAxes; ++a)
    mine["bytes"][std::string(name(static_cast<Axis>(a)))] = {
        {"sent", bytes[static_cast<std::size_t>(a)].sent},
        {"received", bytes[static_cast<std::size_t>(a)].received}};
  facts["ranks"] = Json::array();
  for (const std::string& one : world.gather_bytes(mine.dump()))
    facts["ranks"].push_back(parse_json(one, "a rank's profile"));
  if (world.rank() == 0) write_file_atomically(values["profile"].as<std::string>(), facts.dump(2) + "\n");
}

}  // namespace sonde
