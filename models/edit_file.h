// Edits as a JSON file (--edits), an array of
//   {"site": "blocks.5.hook_attn_out",
//    "op": "replace|add|scale|zero|mean_ablate|project_out|clamp|mask_scores",
//    "tokens": "all", "heads": [3], "keys": "first", "value": ..., "coefficient": 2, "min": 0, "max": 1}
// value: a number; {"file": "x.safetensors", "tensor": "name"}; or {"store": DIR, "site": "same by default"}.
//   replace, add   a number fills the row; a tensor of one row goes to every token, of n rows to the n tokens
//                  of each document; a store gives each token the row of the same document and position.
//                  add multiplies by coefficient (1).
//   scale          multiplies by the number.
//   mean_ablate    replaces by the mean of the tensor's rows, or of all the store's rows.
//   project_out    takes the tensor's rows as a basis and removes their span.
//   clamp          to [-number, number], or to [min, max].
//   mask_scores    -inf from the chosen tokens to the chosen keys (all by default), at attn.hook_attn_scores.
// heads: of points with heads, only these. keys: a token selector, for mask_scores, zero, and replace by a
// number, at scores and patterns.
#pragma once

#include <filesystem>
#include <vector>

#include "io/json.h"
#include "models/hooks.h"
#include "models/spec.h"

namespace sonde {

struct EditFile {
  Json json;                // as given, with a sha256 beside every file: goes into the store's identity
  std::vector<Edit> edits;  // a site pattern gives an edit per matching site
};

// Unknown keys, ops, sites or tensors of the wrong width are Errors that name the file and the entry.
EditFile read_edits(const std::filesystem::path& path, const ModelSpec& spec);

}  // namespace sonde
