// An extraction by several ranks: stretches of batches from a common list, each run by the rank that comes
// first, or by all the ranks that hold a model together.
#pragma once

#include "distributed/mesh.h"
#include "io/shared_store.h"
#include "models/extraction.h"

namespace sonde {

// Rows before each batch of the plan's part, and all: [n_batches + 1].
std::vector<std::int64_t> part_batch_rows(const ExtractionPlan& plan);

// As run_extraction, on every rank of the mesh at once. `writer` is a common one of the last stages' ranks,
// null on the others. Progress counts what all took; bytes are this rank's.
Outcome run_shared_extraction(const Model& model, Backend& backend, const Inputs& inputs,
                              const ExtractionOptions& options, const ExtractionPlan& plan,
                              std::vector<Edit> edits, SharedStoreWriter* writer, const Mesh& mesh,
                              const std::function<void(const Progress&)>& report);

}  // namespace sonde
