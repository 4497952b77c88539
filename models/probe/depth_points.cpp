#include <cmath>
#include <map>

#include "models/probe/probe.h"

namespace sonde {

DepthPoints depth_points(std::span<const double> accuracy) {
  DepthPoints points;
  for (std::size_t i = 1; i < accuracy.size(); ++i) {
    const double ratio = accuracy[i] / accuracy[i - 1];  // after an accuracy of 0: inf, or NaN (no change)
    if (points.jump < 0 && ratio >= 1.1) points.jump = static_cast<int>(i);
    if (std::abs(ratio - 1) >= 0.03) points.converging = static_cast<int>(i);
  }
  return points;
}

std::string hook_pattern(const std::string& site) {
  const std::string_view start = "blocks.";
  const std::size_t dot = site.find('.', start.size());
  if (!site.starts_with(start) || dot == std::string::npos) return site;
  return "blocks.*" + site.substr(dot);
}

std::vector<HookCurve> hook_curves(std::span<const ProbeResult> results) {
  std::vector<std::string> order;
  std::map<std::string, std::map<int, const ProbeResult*>> by_hook;
  for (const ProbeResult& result : results) {
    if (result.layer < 0) continue;
    auto& layers = by_hook[hook_pattern(result.site)];
    if (layers.empty()) order.push_back(hook_pattern(result.site));
    layers[result.layer] = &result;
  }
  std::vector<HookCurve> curves;
  for (const std::string& hook : order) {
    HookCurve curve{hook, {}, {}};
    std::vector<double> accuracy;
    bool whole = true;  // points need every layer from 0 on
    for (const auto& [layer, result] : by_hook[hook]) {
      whole = whole && layer == static_cast<int>(curve.layers.size());
      curve.layers.push_back(result);
      accuracy.push_back(result->metrics.accuracy);
    }
    if (whole) curve.points = depth_points(accuracy);
    curves.push_back(std::move(curve));
  }
  return curves;
}

}  // namespace sonde
