// What must be the same on all ranks: binaries, models, options.
#pragma once

#include <string>

#include "distributed/communicator.h"

namespace sonde {

// `what` ("the sonde binary") is described by `mine`, in words that may be shown. Where ranks differ every
// rank throws an Error that names the ranks in the minority, what they have and what the others have.
void agree(Communicator& ranks, const std::string& what, const std::string& mine, const std::string& hint);

// "rank 2 (node7, process 4711)" for each rank.
std::vector<std::string> rank_names(Communicator& ranks);

}  // namespace sonde
