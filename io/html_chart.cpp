#include "io/html_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/html_page.h"

namespace sonde {
namespace {

// Units of the viewBox: about a phone's pixels, so that text stays readable there.
constexpr double kWidth = 480, kHeight = 330, kLeft = 46, kRight = 12, kTop = 14, kBottom = 44;

struct Reading {
  double value, low, high;
};
Reading reading(const ReportPoint& p, ChartValue value) {
  if (value == ChartValue::accuracy) return {p.accuracy, p.accuracy_low, p.accuracy_high};
  return {p.auc, p.auc_low, p.auc_high};
}

struct Axes {
  double bottom = 1, top = 0;  // values at the ends of the y axis
  int last = 1;                // layer at the end of the x axis

  double x(int layer) const { return kLeft + (kWidth - kLeft - kRight) * layer / last; }
  double y(double v) const { return kTop + (kHeight - kTop - kBottom) * (top - v) / (top - bottom); }
};

Axes fit_axes(const std::vector<const ReportCurve*>& curves, ChartValue value) {
  Axes axes;
  double low = 1, high = 0;
  for (const ReportCurve* curve : curves) {
    const double chance = value == ChartValue::accuracy ? curve->chance : 0.5;
    low = std::min(low, chance);
    high = std::max(high, chance);
    for (const ReportPoint& p : curve->points) {
      axes.last = std::max(axes.last, p.layer);
      const Reading r = reading(p, value);
      for (const double v : {r.value, r.low, r.high}) {
        if (std::isnan(v)) continue;
        low = std::min(low, v);
        high = std::max(high, v);
      }
    }
  }
  axes.bottom = std::max(0.0, std::floor(low * 10 - 0.2) / 10);
  axes.top = std::min(1.0, std::ceil(high * 10 + 0.2) / 10);
  return axes;
}

std::string grid(const Axes& axes, ChartValue value) {
  std::string out;
  const int first = static_cast<int>(std::lround(axes.bottom * 10)),
            end = static_cast<int>(std::lround(axes.top * 10));
  for (int tenth = first; tenth <= end; ++tenth) {
    const double y = axes.y(tenth / 10.0);
    const std::string text =
        value == ChartValue::accuracy ? fmt::format("{} %", tenth * 10) : fmt::format("{:.1f}", tenth / 10.0);
    out += fmt::format("<line class=\"grid\" x1=\"{:g}\" x2=\"{:g}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft,
                       kWidth - kRight, y, y);
    out += fmt::format("<text class=\"tick\" x=\"{:g}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                       kLeft - 6, y + 4, text);
  }
  const int steps[] = {1, 2, 5, 10, 20, 50};
  const int* step =
      std::find_if(std::begin(steps), std::end(steps) - 1, [&](int s) { return axes.last / s <= 8; });
  for (int layer = 0; layer <= axes.last; layer += *step)
    out += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:g}\" text-anchor=\"middle\">{}</text>",
                       axes.x(layer), kHeight - kBottom + 18, layer);
  out += fmt::format("<text class=\"axis\" x=\"{:g}\" y=\"{:g}\" text-anchor=\"middle\">layer</text>",
                     (kLeft + kWidth - kRight) / 2, kHeight - 7);
  return out;
}

std::string chance_line(const Axes& axes, double chance) {
  const double y = axes.y(chance);
  return fmt::format(
      "<line class=\"chance\" x1=\"{:g}\" x2=\"{:g}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
      "<text class=\"chance-name\" x=\"{:g}\" y=\"{:.1f}\" text-anchor=\"end\">chance</text>",
      kLeft, kWidth - kRight, y, y, kWidth - kRight - 2, y - 5);
}

std::string band(const Axes& axes, const ReportCurve& curve, ChartValue value) {
  std::string upper, lower;
  for (const ReportPoint& p : curve.points) {
    const Reading r = reading(p, value);
    if (p.layer < 0 || std::isnan(r.low)) continue;
    upper += fmt::format("{:.1f},{:.1f} ", axes.x(p.layer), axes.y(r.high));
    lower = fmt::format("{:.1f},{:.1f} ", axes.x(p.layer), axes.y(r.low)) + lower;
  }
  return upper.empty() ? "" : fmt::format("<polygon class=\"band\" points=\"{}{}\"/>", upper, lower);
}

std::string line(const Axes& axes, const ReportCurve& curve, ChartValue value) {
  std::string points, dots;
  for (const ReportPoint& p : curve.points) {
    const Reading r = reading(p, value);
    if (p.layer < 0 || std::isnan(r.value)) continue;
    const double x = axes.x(p.layer), y = axes.y(r.value);
    points += fmt::format("{:.1f},{:.1f} ", x, y);
    const std::string interval = std::isnan(r.low) ? "" : fmt::format(" ({:.3f} to {:.3f})", r.low, r.high);
    dots += fmt::format(
        "<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.6\"><title>{}: {:.4f}{}</title></circle>", x,
        y, escape_html(p.site), r.value, interval);
  }
  return fmt::format("<polyline class=\"line\" points=\"{}\"/>{}", points, dots);
}

// A triangle where accuracy jumps, a diamond where it last changes.
std::string marks(const Axes& axes, const ReportCurve& curve, ChartValue value) {
  std::string out;
  for (const ReportPoint& p : curve.points) {
    const Reading r = reading(p, value);
    if (p.layer < 0 || std::isnan(r.value)) continue;
    const double x = axes.x(p.layer), y = axes.y(r.value);
    if (p.layer == curve.jump)
      out += fmt::format(
          "<path class=\"mark\" d=\"M{:.1f} {:.1f}l6.5 11h-13z\"><title>jump point: layer {}</title></path>",
          x, y - 7, p.layer);
    if (p.layer == curve.converging)
      out += fmt::format(
          "<path class=\"mark\" d=\"M{:.1f} {:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z\"><title>converging point: "
          "layer {}</title></path>",
          x, y - 6.5, p.layer);
  }
  return out;
}

}  // namespace

std::string render_chart(const std::vector<const ReportCurve*>& curves, ChartValue value) {
  const Axes axes = fit_axes(curves, value);
  const char* title = value == ChartValue::accuracy ? "Accuracy on test rows" : "AUC on test rows";
  std::string out = fmt::format(
      "<figure class=\"{}\"><figcaption>{}</figcaption><svg viewBox=\"0 0 {:g} {:g}\" role=\"img\" "
      "aria-label=\"{} over the layers\">",
      curves.size() > 3 ? "many" : "few", title, kWidth, kHeight, title);
  out += grid(axes, value);
  std::vector<double> chances;
  for (const ReportCurve* curve : curves)
    chances.push_back(value == ChartValue::accuracy ? curve->chance : 0.5);
  std::sort(chances.begin(), chances.end());
  chances.erase(std::unique(chances.begin(), chances.end()), chances.end());
  for (const double chance : chances) out += chance_line(axes, chance);
  for (const auto part : {band, line, marks})  // all bands below all lines below all marks
    for (std::size_t i = 0; i < curves.size(); ++i)
      out += fmt::format("<g class=\"c{}\">{}</g>", i % 8, part(axes, *curves[i], value));
  return out + "</svg></figure>";
}

}  // namespace sonde
