#include "models/family.h"

#include <algorithm>
#include <string>

#include "runtime/error.h"

namespace sonde {

std::span<const Family> families() {
  static const Family table[] = {kLlama, kMistral,  kMixtral,    kQwen2, kQwen3,   kQwen3Moe,
                                 kGemma, kGemma2,   kGemma3Text, kGpt2,  kGptNeox, kPhi3,
                                 kOlmo2, kStablelm, kStarcoder2, kCohere};
  return table;
}

const Family& family_of(const ModelFiles& files) {
  const bool gguf = files.format() == ModelFormat::gguf;
  const std::string key = gguf ? "general.architecture" : "model_type";
  std::string found;
  if (gguf) {
    found = files.gguf()->text(key);
  } else {
    const auto at = files.config().find(key);
    if (at == files.config().end() || !at->is_string())
      fail("{}: key model_type: found {}, expected a string", files.config_path().string(),
           at == files.config().end() ? "nothing" : at->type_name());
    found = at->get<std::string>();
  }
  std::string known;
  for (const Family& family : families()) {
    const std::string_view name = gguf ? family.gguf : family.hugging_face;
    if (name.empty()) continue;  // no such file is written: an architecture of "" is not it
    if (name == found) return family;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  fail_hint("CONTRIBUTING.md tells how a family is added", "{}: key {}: found '{}', expected one of {}",
            files.path().string(), key, found, known);
}

ModelSpec read_spec(const ModelFiles& files, const IgnoredKeys& ignored) {
  const Family& family = family_of(files);
  ModelSpec spec;
  if (files.format() == ModelFormat::gguf) {
    GgufReader metadata(*files.gguf(), std::string(family.gguf), ignored);
    spec = family.spec_from_gguf(metadata, files);
    // tensor_data_layout: written by old converters, for the row order that Llama's tensor table undoes
    metadata.finish({"vocab_size", "tensor_data_layout"});
  } else {
    ConfigReader config(files.config(), files.config_path().string(), ignored);
    spec = family.spec_from_config(config, files);
    config.finish();
  }
  spec.family = family.name;
  spec.check(files.path().string());
  return spec;
}

std::vector<TensorRow> tensors_of(const ModelFiles& files, const ModelSpec& spec) {
  TensorNames names = family_of(files).names(files.format(), spec);
  if (files.find("blk.0.ffn_gate.0.weight") != nullptr) names.stacked_experts = false;
  if (spec.n_experts > 0 && std::ranges::any_of(files.tensors(), [](const FileTensor& tensor) {
        return tensor.name.ends_with(".mlp.experts.gate_up_proj");
      }))
    names = llama_names_with_stacked_experts();
  // A config of one line can ask for layers times experts rows: the first that is not in the files ends it.
  return name_tensors(spec, names, [&](const TensorRow& row) { find_tensor(files, row, spec.n_experts); });
}

}  // namespace sonde
