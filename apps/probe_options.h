// What `sonde probe` and `sonde depth` share: the probe's options, the split, the summary they print.
#pragma once

#include <span>

#include "apps/command.h"
#include "io/table.h"
#include "models/probe/output.h"
#include "models/probe/probe.h"

namespace sonde {

void add_probe_options(po::options_description& options);
ProbeOptions read_probe_options(const po::variables_map& values);
Split read_split(const po::variables_map& values, const Table& table);
std::int64_t probe_memory(const po::variables_map& values);  // bytes of features held at once
void print_probe_runs(std::span<const ProbeRun> runs);

}  // namespace sonde
