// The ranks this process was started with.
#pragma once

#include <memory>

#include "distributed/communicator.h"

namespace sonde {

// All ranks of the run, when a launcher started us (mpiexec, or srun with PMIx or PMI: known by their
// environment variables); else a single one, at no cost. SONDE_RANKS=single says single in any case. The
// communicator must live until all is done: giving it up leaves the run.
std::unique_ptr<Communicator> join_world();

namespace world_detail {
bool launched();                           // by something that speaks PMI
std::unique_ptr<Communicator> join_mpi();  // mpi.cpp | no_mpi.cpp
}  // namespace world_detail

}  // namespace sonde
