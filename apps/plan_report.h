// A plan as text and as JSON.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"
#include "models/plan/plan.h"

namespace sonde {

struct PlanReport {
  std::string model, dtype, documents;
  PlanRequest request;
  std::vector<MeshPlan> meshes;  // the best first
  double document_id_bytes = 8;

  StorePlan store() const;
};

Json to_json(const PlanReport& report);
void print(const PlanReport& report);
std::string describe_bytes(double bytes);                           // "80.0 GB"
std::string describe_memory(const std::vector<MemoryKind>& kinds);  // "weights 16.1 GB, workspace 0.5 GB"

}  // namespace sonde
