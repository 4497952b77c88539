// Edits as a JSON file (sonde extract --edits):
//   [{"site": "blocks.5.hook_attn_out", "op": "replace|add|scale|zero|project_out", "tokens": "all",
//     "value": number or {"file": "x.safetensors", "tensor": "name"}, "coefficient": number}]
// A number as the value of replace or add fills the whole row; project_out takes the rows of its tensor as a
// basis.
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
