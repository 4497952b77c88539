// Ranks at the start of a run: what must be the same on all, who has which cores, and the table that says so.
#pragma once

#include "apps/command.h"
#include "distributed/communicator.h"
#include "distributed/mesh.h"
#include "io/json.h"

namespace sonde {

void add_mesh_options(po::options_description& options);  // --tensor-parallel, --pipeline-parallel

// Compares binaries, lowers every rank's CPU path to the least capable rank's, gives each rank its share of
// its cores, and prints the layout (rank 0). Nothing of this with one rank.
// How many ranks a model may be spread over. all: every rank runs the same model in step.
enum class ModelRanks { one, several, all };
Mesh lay_out_ranks(const po::variables_map& values, Communicator& world, ModelRanks model);

// Ranks on this rank's node, which share its memory.
int ranks_here(Communicator& world);

Json describe_rank(const Mesh& mesh,
                   const Communicator& world);  // {"rank": r, "data": D, ..}: for shards.jsonl

}  // namespace sonde
