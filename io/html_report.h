// One HTML file that shows at which depth concepts become readable: curves, tables, words. It needs nothing
// from outside (inline SVG and CSS), follows the reader's light or dark setting, fits a phone and prints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace sonde {

// One probe. NaN: not measured, shown as a dash.
struct ReportPoint {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::string site;
  int layer = 0;  // -1: the site has no layer; it appears in the table alone
  double accuracy = kNone, accuracy_low = kNone, accuracy_high = kNone;
  double auc = kNone, auc_low = kNone, auc_high = kNone;
  double f1 = kNone, f1_label0 = kNone, log_loss = kNone, ece = kNone;
  double shuffled_accuracy = kNone, random_accuracy = kNone;
  bool converged = true;
};

// One hook over the layers, for one model, dataset and variant.
struct ReportCurve {
  std::string model, dataset, label;
  std::string variant;  // what sets this run apart: "standardised", "int4 weights"; may be empty
  std::string hook;     // "blocks.*.ln2.hook_out"
  std::int64_t n_train = 0, n_test = 0;
  double chance = 0.5;  // accuracy of always naming the test rows' most frequent class
  int jump = -1, converging = -1;
  std::vector<ReportPoint> points;
};

struct DepthReport {
  std::string title = "At which depth does a probe read the concept?";
  std::vector<std::pair<std::string, std::string>> facts;  // "split" -> "by seed 42, 40 % test"
  std::vector<ReportCurve> curves;  // curves of one dataset and label share their charts
};

std::string render_html(const DepthReport& report);
void write_html_report(const std::filesystem::path& path, const DepthReport& report);

}  // namespace sonde
