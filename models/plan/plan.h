// A run on a cluster before it runs: the mesh that takes the least time of those that fit, and what each
// costs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/plan/machine.h"
#include "models/plan/memory.h"
#include "models/plan/storage.h"
#include "models/plan/work.h"

namespace sonde {

// Seconds of the slowest rank. The writer works beside the forward, but for what has not filled a block when
// that ends: the longer of the two counts.
struct PhaseTimes {
  double start = 0, load = 0, forward = 0, communication = 0, capture = 0, finish = 0, write = 0;
  double compute() const { return forward + communication + capture; }
  double work() const {
    return compute() + finish > write ? compute() + finish : write;
  }  // once it is loaded
  double total() const { return start + load + work(); }
};

// That one rank sends or receives in all, whichever is more: inside its node and between nodes, and the same
// by the axis of the mesh (runtime/traffic.h).
struct LinkBytes {
  double inside = 0, between = 0;
  double tensor = 0, pipeline = 0;
};

struct MeshPlan {
  PlanMesh mesh;
  std::vector<MemoryKind> memory;  // of the rank that holds most
  std::int64_t bytes() const { return total(memory); }
  bool fits = false;
  PhaseTimes seconds;
  LinkBytes links;
  double tokens_per_second = 0;
};

struct PlanRequest {
  const ModelSpec* spec;
  Work work;
  StoreSchema schema;
  MemoryOptions memory;
  Machine machine;
  double model_bytes = 0;                        // read from disk
  std::optional<std::int64_t> tensor, pipeline;  // asked for
};

MeshPlan plan_mesh(const PlanRequest& request, const PlanMesh& mesh);
// All meshes of the machine's ranks, those that fit first, the quickest first.
std::vector<MeshPlan> plan_meshes(const PlanRequest& request);
// What would make a run fit that does not, in words: "3 nodes (data 1 x tensor 4 x pipeline 3)".
std::vector<std::string> what_would_fit(const PlanRequest& request);

}  // namespace sonde
