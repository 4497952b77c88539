// What a rank computes with: rates, each with where it comes from, so that a plan can show what it assumes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/json.h"
#include "kernels/backend.h"
#include "kernels/cpu/peak.h"

namespace sonde {

struct Assumption {
  std::string what;  // "products"
  double value = 0;  // per second, or seconds
  std::string unit, source;
};

struct Machine {
  std::string name;
  bool gpu = false;
  std::int64_t nodes = 1, ranks_per_node = 1;
  std::int64_t memory = 0;                   // bytes of a rank
  Assumption products;                       // FLOP/s in linear layers
  Assumption attention;                      // FLOP/s in attention, of whole tiles
  Assumption attention_query;                // seconds of a query and head beside them
  Assumption rows;                           // bytes/s of the steps between
  Assumption weights;                        // bytes/s at which memory gives the weights, once a batch
  Assumption capture;                        // bytes/s from the forward into the store's buffers, float32
  Assumption load;                           // bytes/s of prepared weights
  Assumption disk;                           // bytes/s that a rank's writer reaches
  Assumption filesystem;                     // bytes/s of all ranks together
  Assumption link, network;                  // bytes/s that a rank sends inside its node, between nodes
  Assumption link_latency, network_latency;  // seconds of a message
  Assumption start;                          // seconds before a rank loads: launcher, options, tokenizer
  AttentionTile tile;
  std::int64_t measured_ranks = 1;  // of a node, at work when the rates were measured
  double crowded = 1;  // a rank's speed while all cores of its node work, against that of one alone

  std::int64_t ranks() const { return nodes * ranks_per_node; }
  std::vector<Assumption*> assumptions();
};

struct GpuKind {
  std::string_view name;
  std::int64_t memory;  // bytes
  // FLOP/s dense (0: it has no fp8), FLOP/s without TF32, bytes/s, bytes/s one way
  double fp8, bf16, f32, bandwidth, link;
};
std::span<const GpuKind> gpu_kinds();
const GpuKind& find_gpu(const std::string& name);  // UsageError lists the known
Machine gpu_machine(const GpuKind& kind, Precision precision);

// A CPU by its peaks: GEMM FLOP/s and bytes/s of memory, of a rank's threads.
Machine cpu_machine(const std::string& name, double gemm_peak, double bandwidth, const std::string& source);
// Replaces what the JSON of `sonde bench` measured. Errors name `file` and the key.
void use_bench(Machine& machine, const Json& bench, const std::string& file);
// Ranks of so many threads on each node with so many cores, where another number was measured: those that
// have more threads than there are cores take turns.
void share_cores(Machine& machine, std::int64_t threads, std::int64_t cores);

}  // namespace sonde
