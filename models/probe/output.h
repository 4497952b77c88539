// What probes leave on disk: probes.csv, probes.json, probes.safetensors, report.html; and reading them back.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/html_report.h"
#include "models/probe/probe.h"

namespace sonde {

// The probes of one model, dataset, variant and label column.
struct ProbeRun {
  std::string model, dataset;
  std::string variant;  // what sets this run apart from others of the same model and dataset; may be empty
  ProbeTask task;
  ProbeOptions options;
  std::vector<ProbeResult> results;  // in the order of the sites
};

// One row per run and site; undefined values are empty, others have all their digits.
void write_probe_csv(const std::filesystem::path& path, std::span<const ProbeRun> runs);
// Options, classes, results, and per hook over the layers the jump and converging points (i, i/L, or null).
void write_probe_json(const std::filesystem::path& path, std::span<const ProbeRun> runs);
// Per run r and site: "r/SITE/weight" f64 [C, D], "bias" [C], "mean" and "scale" [D]; score = weight . (x -
// mean) / scale + bias.
void write_probe_weights(const std::filesystem::path& path, std::span<const ProbeRun> runs);
DepthReport probe_report(std::span<const ProbeRun> runs);

// A trained probe, as `sonde probe apply` uses it.
struct SavedProbe {
  std::string label, site;
  std::vector<std::string> classes;  // empty: a regression
  ScoreKind kind = ScoreKind::log_odds;
  LinearModel model;
};
std::vector<SavedProbe> read_probes(const std::filesystem::path& dir);

struct ScoredRow {
  std::int64_t row;
  std::string prediction;  // a class, or the regression's value
  double probability;      // of label 1 (two classes) or of the prediction (several); -1: the probe has none
  std::vector<double> scores;  // one for two classes, else one per class
};
std::vector<ScoredRow> apply_probe(ProbeOps& ops, const SavedProbe& probe, const float* x /*[.., D]*/,
                                   std::int64_t stride, std::span<const std::int64_t> rows);
std::string csv_quote(const std::string& text);

}  // namespace sonde
