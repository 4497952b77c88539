// How a family of models gets from its files to a ModelSpec and a tensor table. One file per family under
// families/, one line per family in family.cpp.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "io/model_files.h"
#include "models/config_reader.h"
#include "models/spec.h"
#include "models/tensor_table.h"

namespace sonde {

struct Family {
  std::string_view name;
  std::string_view hugging_face;  // model_type of config.json
  std::string_view gguf;          // general.architecture, or "" where llama.cpp does not write it
  ModelSpec (*spec_from_config)(ConfigReader& config, const ModelFiles& files);
  ModelSpec (*spec_from_gguf)(GgufReader& metadata, const ModelFiles& files);  // null without a GGUF name
  TensorNames (*names)(ModelFormat format, const ModelSpec& spec);
};

std::span<const Family> families();
// By config.json's model_type or GGUF's general.architecture; an unknown one is an Error that lists the
// known.
const Family& family_of(const ModelFiles& files);
// Reads and checks the spec; every key claimed.
ModelSpec read_spec(const ModelFiles& files, const IgnoredKeys& ignored);
// The tensor table under the names of these files.
std::vector<TensorRow> tensors_of(const ModelFiles& files, const ModelSpec& spec);

// The families, in the order of the table.
extern const Family kLlama, kMistral, kMixtral, kQwen2, kQwen3, kQwen3Moe, kGemma, kGemma2, kGemma3Text,
    kGpt2, kGptNeox, kPhi3, kOlmo2, kStablelm, kStarcoder2, kCohere;

}  // namespace sonde
