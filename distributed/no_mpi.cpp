// A build without MPI: one rank, and a launcher's second one is refused rather than left to do the work
// twice.
#include <cstdlib>
#include <string_view>

#include "distributed/world.h"
#include "runtime/error.h"

namespace sonde {

std::unique_ptr<Communicator> world_detail::join_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* size = std::getenv(name); size && std::string_view(size) != "1")
      fail_hint("build with MPI (Debian: libopenmpi-dev), or start one process",
                "{}={}: this sonde was built without MPI", name, size);
  return make_single();
}

}  // namespace sonde
