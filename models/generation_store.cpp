#include "models/generation_store.h"

#include <algorithm>

#include "models/batch_arrays.h"
#include "models/capture_link.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// Rows of one text: [site][position]. Scores and patterns differ in length from row to row.
using TextRows = std::vector<std::vector<std::vector<float>>>;

// Sites that other stages have hold no rows here.
void put_rows(const TextRows& rows, const std::vector<Site>& sites, const HookSizes& sizes,
              CaptureSink& sink) {
  for (std::size_t s = 0; s < sites.size(); ++s) {
    if (std::ranges::all_of(rows[s], [](const std::vector<float>& row) { return row.empty(); })) continue;
    const std::vector<std::int64_t> shape = row_shape(sites[s].hook, sizes);
    for (std::size_t p = 0; p < rows[s].size(); ++p) {
      const std::vector<float>& row = rows[s][p];
      const auto width = static_cast<std::int64_t>(row.size());
      sonde_check(width > 0, "{}: no row of position {}", name(sites[s]), p);
      auto* data = const_cast<float*>(row.data());  // a sink only reads
      sink.put(sites[s],
               shape.size() == 2 ? Tensor(data, DType::f32, {1, shape[0], width / shape[0]})
                                 : Tensor(data, DType::f32, {1, width}),
               static_cast<std::int64_t>(p));
    }
  }
}

}  // namespace

TextRecording plan_recording(const ModelSpec& spec, std::vector<KnownText> texts,
                             std::vector<std::string> ids, const ExtractionOptions& options) {
  std::vector<std::vector<std::int32_t>> read;
  for (const KnownText& text : texts) read.emplace_back(text.ids.begin(), text.ids.end() - 1);
  TextRecording recording{std::move(texts), id_inputs(std::move(ids), read), options, {}};
  recording.options.batch_tokens = 1;
  recording.plan = plan_extraction(spec, recording.inputs, recording.options);
  return recording;
}

void record_texts(const Model& model, Backend& backend, const TextRecording& recording,
                  const GenerateOptions& options, std::vector<Edit> edits, StoreWriter* writer,
                  const Mesh& mesh, const std::function<void(const Progress&)>& report) {
  const std::vector<Site>& sites = recording.options.sites;
  const auto count = static_cast<std::int64_t>(recording.texts.size());
  std::vector<TextRows> rows;  // of the texts that run
  const bool keeps = mesh.tensor_index == 0;
  CaptureSender sender(*mesh.model, 0, static_cast<int>(options.sequences));
  Generator generator(model, backend, options, std::move(edits));
  generator.capture(sites, [&](std::size_t text, Site site, std::int64_t position, Tensor row) {
    if (!keeps) return;
    const auto s = static_cast<std::size_t>(std::ranges::find(sites, site) - sites.begin());
    rows[text][s][static_cast<std::size_t>(position)].assign(row.f32(), row.f32() + row.width());
  });
  std::int64_t start = writer != nullptr ? writer->first_batch() : 0;
  mesh.model->broadcast(std::span(&start, 1));
  Progress progress{0, 0, 0};
  for (std::int64_t t = start; t < count; ++t) progress.tokens_total += recording.inputs.length(t);
  for (std::int64_t first = start; first < count; first += options.sequences) {
    const std::int64_t end = std::min(count, first + options.sequences);
    rows.clear();
    for (std::int64_t t = first; t < end; ++t)
      rows.emplace_back(sites.size(), std::vector<std::vector<float>>(
                                          static_cast<std::size_t>(recording.inputs.length(t))));
    generator.replay({recording.texts.begin() + first, recording.texts.begin() + end},
                     static_cast<std::size_t>(first));
    BatchArrays arrays;
    for (std::int64_t t = first; t < end; ++t) {
      const TextRows& text = rows[static_cast<std::size_t>(t - first)];
      if (writer != nullptr) {
        arrays.fill(recording.plan, recording.inputs, recording.options, t);
        writer->begin_batch(t, recording.plan.batch_row[static_cast<std::size_t>(t)], arrays.rows());
        for (int stage = mesh.shape.pipeline - 1; stage > 0; --stage)  // the first one's rows come first
          receive_captures(*mesh.model, stage * mesh.shape.tensor, *writer);
        put_rows(text, sites, model.spec.hook_sizes(), *writer);
        writer->end_batch();
        progress.bytes_written = writer->bytes_written();
      } else if (keeps) {
        put_rows(text, sites, model.spec.hook_sizes(), sender);
        sender.end_batch();
      }
      mesh.model->beat();
      progress.tokens_done += recording.inputs.length(t);
      report(progress);
    }
  }
  mesh.model->long_task();
  if (writer != nullptr) writer->finish();
  mesh.model->barrier();
}

}  // namespace sonde
