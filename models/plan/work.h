// What a run has to do, before a machine is chosen: tokens, rows, batches, floating-point operations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "distributed/shares.h"
#include "kernels/cpu/peak.h"
#include "models/extraction.h"
#include "models/spec.h"
#include "models/stage.h"

namespace sonde {

struct Work {
  struct Sequences {
    std::int64_t tokens, count;  // `count` sequences of so many tokens
  };
  std::vector<Sequences> sequences;
  std::int64_t documents = 0, tokens = 0, rows = 0, batches = 0;
  std::int64_t longest = 0, largest_batch = 0;  // tokens

  // Keys that all queries see together: a query at position p sees min(p + 1, window) of them; 0: no window.
  double keys_seen(std::int64_t window) const;
  // Keys that all queries are multiplied by, in tiles: as scores and as weights of values, each counted half.
  double keys_multiplied(std::int64_t window, AttentionTile tile) const;
};

Work work_of(const ExtractionPlan& plan, const Inputs& inputs);
// Documents of one length, the last one shorter. Not for selectors that read a column.
Work uniform_work(std::int64_t tokens, std::int64_t document_tokens, const ModelSpec& spec,
                  const ExtractionOptions& options);

// Layers that run so that every site is reached, and whether logits are among them.
std::int64_t layers_needed(const ModelSpec& spec, std::span<const Site> sites);
bool wants_logits(std::span<const Site> sites);
bool wants_scores(std::span<const Site> sites);
// What of the model runs for these sites, of captures and edits.
RunPart run_part_of(const ModelSpec& spec, std::span<const Site> sites, std::int64_t tokens,
                    std::int64_t rows);

// Two for a multiply-add. The last layer's tail and the head run for recorded rows alone.
struct Flops {
  double linear = 0;     // linear layers of the blocks, routers included
  double attention = 0;  // q.k and pattern times values, of keys that are seen, or of whole tiles
  double head = 0;       // logits
  double total() const { return linear + attention + head; }
};
// `layers`: of these alone, of those that run; the head is the last one's.
Flops flops_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites, AttentionTile tile = {});
Flops flops_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites, AttentionTile tile,
               Share layers);
double attention_flops(const ModelSpec& spec, double keys);  // of a layer
// Bytes that the steps between read and write: norms, rotations, activations, sums.
double row_bytes_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites);
// Bytes of the captured values in float32, before they are narrowed.
double captured_bytes_of(const ModelSpec& spec, const Work& work, std::span<const Site> sites);

}  // namespace sonde
