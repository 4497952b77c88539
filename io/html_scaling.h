// One HTML page about how a run scales with its ranks: speed-up, efficiency, time by phase, and what was
// predicted.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace sonde {

struct ScalingPoint {
  int ranks = 1;
  double seconds = 0, predicted_seconds = 0;  // of the slowest rank, once the model is loaded
  double speedup = 1, efficiency = 1;         // against the fewest ranks of the series
  double predicted_speedup = 1, predicted_efficiency = 1;
  double tokens_per_second = 0;
  std::vector<double> phases;  // seconds of a rank, the mean of all; as ScalingReport::phases
  // That the rank which exchanges most sends or receives; as ScalingReport::axes
  std::vector<double> bytes, predicted_bytes;
};

struct ScalingSeries {
  std::string name, meaning;  // "strong", "the same documents for any number of ranks"
  std::vector<ScalingPoint> points;
};

struct ScalingReport {
  std::string title;
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<std::string> phases, axes;
  std::vector<ScalingSeries> series;
};

std::string render_html(const ScalingReport& report);
void write_scaling_report(const std::filesystem::path& path, const ScalingReport& report);

}  // namespace sonde
