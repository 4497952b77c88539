// The MPI side of RankLink.
#pragma once

#include <memory>
#include <string>

#include "runtime/rank_link.h"
#include "runtime/traffic.h"

namespace sonde {

class Board;

// Collective over the group of `communicator`, an MPI_Comm, and with messages apart from the group's own.
std::unique_ptr<RankLink> make_mpi_link(void* communicator, std::string name, Axis axis, Board* board);

}  // namespace sonde
