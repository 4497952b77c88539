#include "distributed/world.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace sonde {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

bool world_detail::launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
    if (!variable(name).empty()) return true;
  // srun without PMI starts many processes that know nothing of each other: each would do all of the work.
  const std::string_view tasks = variable("SLURM_STEP_NUM_TASKS");
  if (!tasks.empty() && tasks != "1" && !variable("SLURM_STEP_ID").empty())
    fail_hint("srun --mpi=pmix (`srun --mpi=list` shows what this site has), or mpirun",
              "srun started {} tasks that cannot find each other: found no PMIX_RANK or PMI_RANK", tasks);
  return false;
}

std::unique_ptr<Communicator> join_world() {
  const std::string_view asked = variable("SONDE_RANKS");
  if (!asked.empty() && asked != "single" && asked != "auto")
    throw UsageError(fmt::format("SONDE_RANKS: found '{}', expected auto or single", asked));
  if (asked == "single" || !world_detail::launched()) return make_single();
  return world_detail::join_mpi();
}

}  // namespace sonde
