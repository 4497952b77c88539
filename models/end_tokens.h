// The tokens that end a text, as a model's files name them.
#pragma once

#include <cstdint>
#include <set>

#include "io/model_files.h"

namespace sonde {

// eos_token_id of generation_config.json, else of config.json; of GGUF the eos, eot and eom tokens. Empty
// where the files name none.
std::set<std::int32_t> end_tokens(const ModelFiles& files);

}  // namespace sonde
