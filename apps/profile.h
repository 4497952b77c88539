// --profile FILE: where the time of a run went, on every rank, as JSON.
#pragma once

#include <filesystem>

#include "apps/command.h"
#include "io/json.h"

namespace sonde {

void add_profile_option(po::options_description& options);
void start_profile();  // the clock runs from here on
// Where --profile asks for it. All ranks call this; rank 0 writes `facts` (tokens, rows, ...) beside their
// phases.
void write_profile(const po::variables_map& values, Communicator& world, Json facts);

}  // namespace sonde
