// RoPE's keys, which most families share: of config.json in both generations, and of GGUF metadata.
#pragma once

#include "io/model_files.h"
#include "models/config_reader.h"
#include "models/spec.h"

namespace sonde {

// What a config that says nothing means.
struct RopeDefaults {
  double theta = 10000;
  double fraction = 0;  // of a head's dimensions that turns; 0: all, and no key changes that
  double original = 0;  // context before stretching; 0: as the scaling rule says, or max_position_embeddings
};

// rope_parameters, or rope_theta with rope_scaling.
RopeSpec rope_from_config(ConfigReader& config, const ModelSpec& spec, const RopeDefaults& defaults = {});
// One such object, to be finished by the caller.
RopeSpec rope_from_object(ConfigReader& object, const ModelSpec& spec, const RopeDefaults& defaults);
RopeSpec rope_from_gguf(GgufReader& metadata, const ModelFiles& files, const ModelSpec& spec);

}  // namespace sonde
