// The cluster that a plan is for: --nodes, --gpus, --gpu-memory, --bench, ...
#pragma once

#include <string>

#include "apps/command.h"
#include "models/plan/machine.h"

namespace sonde {

void add_cluster_options(po::options_description& options);
Machine read_machine(const po::variables_map& values, Precision precision);
bool plans_gpus(const po::variables_map& values);

// Ranks of a node that have more threads than there are cores take turns.
void share_cores(Machine& machine, std::int64_t threads, std::int64_t cores);

// "1e9", "1000000000": a whole number from 1 on.
std::int64_t parse_count(const std::string& option, const std::string& text);
// "80G", "1.5T", "64GiB": bytes; k, M, G, T are powers of 1000, ki, Mi, Gi, Ti of 1024.
double parse_bytes(const std::string& option, const std::string& text);

}  // namespace sonde
