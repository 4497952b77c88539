// The rates of this device that `sonde plan --bench` reads, from where the time of a bench went.
#pragma once

#include <filesystem>
#include <span>

#include "io/json.h"
#include "kernels/backend.h"
#include "models/model.h"
#include "runtime/profile.h"

namespace sonde {

// Products, attention and the steps between, of `runs` forwards over documents of `tokens` tokens whose
// phases took `seconds` in all; loading, where `load_seconds` is above 0.
Json forward_rates(const Model& model, std::int64_t documents, std::int64_t tokens,
                   std::span<const Site> sites, int runs, const PhaseSeconds& seconds, double load_seconds);
// Writes a store of these sites in a folder of its own under `folder`, and removes it: how fast rows are
// taken, and how fast they reach the disk.
Json store_rates(const ModelSpec& spec, std::span<const Site> sites, const std::filesystem::path& folder);

// The speed of one of several ranks of so many threads while all of this machine's cores work, against one
// alone.
double measure_crowded(Precision precision, int threads);

PhaseSeconds operator-(const PhaseSeconds& a, const PhaseSeconds& b);
void operator+=(PhaseSeconds& a, const PhaseSeconds& b);

}  // namespace sonde
