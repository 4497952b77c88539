// Activations of generated texts as a store: the steps that made them are gone through again, with the same
// edits, so that the store's size is known before its first row.
#pragma once

#include <span>

#include "distributed/mesh.h"
#include "models/extraction.h"
#include "models/generator.h"

namespace sonde {

struct TextRecording {
  std::vector<KnownText> texts;
  Inputs inputs;  // the tokens that are read: all of a text but its last
  ExtractionOptions options;
  ExtractionPlan plan;  // a batch for each text
};
TextRecording plan_recording(const ModelSpec& spec, std::vector<KnownText> texts,
                             std::vector<std::string> ids, const ExtractionOptions& options);

// Runs the texts from the writer's first one and finishes the store, on all ranks of one model. writer: of
// the rank that leads them, null elsewhere.
void record_texts(const Model& model, Backend& backend, const TextRecording& recording,
                  const GenerateOptions& options, std::vector<Edit> edits, StoreWriter* writer,
                  const Mesh& mesh, const std::function<void(const Progress&)>& report);

}  // namespace sonde
