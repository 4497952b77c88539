// The cluster that a plan is for: --nodes, --gpus, --gpu-memory, --bench, ...
#pragma once

#include <string>

#include "apps/command.h"
#include "models/plan/plan.h"

namespace sonde {

void add_cluster_options(po::options_description& options);
// What a CPU's rates are measured by, where nobody gives them.
struct PlannedRun {
  const ModelFiles& files;
  const ModelSpec& spec;
  const Work& work;
  Precision precision;
  WeightsInMemory in_memory;
};
// Bytes of the model's files, or what they would be at the config's dtype.
void measure_files(PlanRequest& request, const ModelFiles& files, const ModelSpec& spec,
                   WeightsInMemory in_memory);
Machine read_machine(const po::variables_map& values, const PlannedRun& run);
bool plans_gpus(const po::variables_map& values);

// "1e9", "1000000000": a whole number from 1 on.
std::int64_t parse_count(const std::string& option, const std::string& text);
// "80G", "1.5T", "64GiB": bytes; k, M, G, T are powers of 1000, ki, Mi, Gi, Ti of 1024.
double parse_bytes(const std::string& option, const std::string& text);

}  // namespace sonde
