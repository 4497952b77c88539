// RoPE as configs write it: rope_parameters (transformers 5), rope_theta + rope_scaling (before), GGUF's
// rope.* keys.
#pragma once

#include "models/config_reader.h"
#include "models/spec.h"

namespace sonde {

// `context`: max_position_embeddings, the default of the original context.
RopeSpec rope_from_config(ConfigReader& config, std::int64_t context);
// Reads rope_freqs.weight too, where the file has it.
RopeSpec rope_from_gguf(GgufReader& metadata, const ModelFiles& files, std::int64_t context);

}  // namespace sonde
