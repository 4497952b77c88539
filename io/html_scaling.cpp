#include "io/html_scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "io/file_util.h"
#include "io/html_page.h"

namespace sonde {
namespace {

// Units of the viewBox: about a phone's pixels.
constexpr double kWidth = 480, kHeight = 300, kLeft = 50, kRight = 12, kTop = 14, kBottom = 44;

struct Line {
  std::string name;
  int colour;  // class c0..c7; each has a dash pattern of its own
  std::function<double(const ScalingPoint&)> value;
};

double x_of(const ScalingSeries& series, int ranks) {
  const double first = std::log2(series.points.front().ranks), last = std::log2(series.points.back().ranks);
  const double at = last > first ? (std::log2(ranks) - first) / (last - first) : 0.5;
  return kLeft + 14 + (kWidth - kLeft - kRight - 28) * at;
}

// Values over the ranks (a logarithmic axis), from 0 to a round number above the largest.
std::string chart(const ScalingSeries& series, const std::string& title, const std::vector<Line>& lines) {
  double top = 0;
  for (const ScalingPoint& p : series.points)
    for (const Line& line : lines) top = std::max(top, line.value(p));
  const double step = std::pow(10, std::floor(std::log10(std::max(top, 1e-9) / 2)));
  const double tick = std::ceil(top / (step * 4)) * step;
  top = std::ceil(top / tick) * tick;
  const auto y_of = [&](double v) { return kTop + (kHeight - kTop - kBottom) * (1 - v / top); };
  std::string out = fmt::format(
      "<figure><figcaption>{0}</figcaption><svg viewBox=\"0 0 {1:g} {2:g}\" role=\"img\" aria-label=\"{0}\">",
      title, kWidth, kHeight);
  for (double v = 0; v <= top * 1.001; v += tick)
    out += fmt::format(
        "<line class=\"grid\" x1=\"{:g}\" x2=\"{:g}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{:g}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3g}</text>",
        kLeft, kWidth - kRight, y_of(v), y_of(v), kLeft - 6, y_of(v) + 4, v);
  for (const ScalingPoint& p : series.points)
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:g}\" text-anchor=\"middle\">{}</text>",
                       x_of(series, p.ranks), kHeight - kBottom + 18, p.ranks);
  out += fmt::format("<text class=\"axis\" x=\"{:g}\" y=\"{:g}\" text-anchor=\"middle\">ranks</text>",
                     (kLeft + kWidth - kRight) / 2, kHeight - 7);
  for (const Line& line : lines) {
    std::string points, dots;
    for (const ScalingPoint& p : series.points) {
      const double x = x_of(series, p.ranks), y = y_of(line.value(p));
      points += fmt::format("{:.1f},{:.1f} ", x, y);
      dots += fmt::format(
          "<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>{}, {} ranks: "
          "{:.3g}</title></circle>",
          x, y, escape_html(line.name), p.ranks, line.value(p));
    }
    out += fmt::format("<g class=\"c{}\"><polyline class=\"line\" points=\"{}\"/>{}</g>", line.colour, points,
                       dots);
  }
  out += "</svg></figure>";
  return out;
}

std::string legend(const std::vector<std::pair<std::string, int>>& names) {
  std::string out = "<ul class=\"legend\">";
  for (const auto& [name, colour] : names)
    out += fmt::format("<li class=\"c{}\"><span class=\"swatch\"></span>{}</li>", colour, escape_html(name));
  return out + "</ul>";
}

// A bar for each number of ranks, as long as its seconds, cut into phases.
std::string bars(const ScalingReport& report, const ScalingSeries& series) {
  constexpr double kBar = 26, kGap = 12, kName = 64;
  double longest = 0;
  for (const ScalingPoint& p : series.points) {
    double sum = 0;
    for (const double s : p.phases) sum += s;
    longest = std::max(longest, sum);
  }
  const double height = kTop + static_cast<double>(series.points.size()) * (kBar + kGap);
  std::string out = fmt::format(
      "<figure><figcaption>Seconds of a rank by phase ({0})</figcaption><svg viewBox=\"0 0 {1:g} {2:g}\" "
      "role=\"img\" "
      "aria-label=\"Seconds by phase, {0}\">",
      series.name, kWidth, height);
  double y = kTop;
  for (const ScalingPoint& p : series.points) {
    out += fmt::format("<text x=\"{:g}\" y=\"{:.1f}\" text-anchor=\"end\">{} rank{}</text>", kName - 8,
                       y + kBar / 2 + 4, p.ranks, p.ranks == 1 ? "" : "s");
    double x = kName;
    for (std::size_t i = 0; i < p.phases.size(); ++i) {
      const double width = longest > 0 ? (kWidth - kName - kRight) * p.phases[i] / longest : 0;
      out += fmt::format(
          "<g class=\"c{}\"><rect class=\"dot\" x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:g}\">"
          "<title>{} ranks, {}: {:.3g} s</title></rect></g>",
          i % 8, x, y, width, kBar, p.ranks, escape_html(report.phases[i]), p.phases[i]);
      x += width;
    }
    y += kBar + kGap;
  }
  return out + "</svg></figure>";
}

std::string table(const ScalingReport& report, const ScalingSeries& series) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>ranks</th><th>seconds</th><th>predicted</th><th>off "
      "by</th><th>tokens/s</th>"
      "<th>speed-up</th><th>efficiency</th>";
  for (const std::string& phase : report.phases) out += fmt::format("<th>{}</th>", escape_html(phase));
  out += "</tr>";
  for (const ScalingPoint& p : series.points) {
    out += fmt::format(
        "<tr><td>{}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:+.0f}\u00a0%</td><td>{:.0f}</td><td>{:.2f}</td>"
        "<td>{:.1f}\u00a0%</td>",
        p.ranks, p.seconds, p.predicted_seconds, 100 * (p.predicted_seconds / p.seconds - 1),
        p.tokens_per_second, p.speedup, 100 * p.efficiency);
    for (const double s : p.phases) out += fmt::format("<td>{:.2f}</td>", s);
    out += "</tr>";
  }
  return out + "</table></div>";
}

// Megabytes along each axis, and what was planned.
std::string bytes_table(const ScalingReport& report, const ScalingSeries& series) {
  std::string out = "<div class=\"wide\"><table><tr><th>ranks</th>";
  for (const std::string& axis : report.axes)
    out += fmt::format("<th>{0}, MB</th><th>planned</th>", escape_html(axis));
  out += "</tr>";
  for (const ScalingPoint& p : series.points) {
    out += fmt::format("<tr><td>{}</td>", p.ranks);
    for (std::size_t a = 0; a < p.bytes.size(); ++a)
      out += fmt::format("<td>{:.3f}</td><td>{:.3f}</td>", p.bytes[a] * 1e-6, p.predicted_bytes[a] * 1e-6);
    out += "</tr>";
  }
  return out + "</table></div>";
}

std::string section(const ScalingReport& report, const ScalingSeries& series) {
  std::string out = fmt::format("<section><h2>{} scaling</h2><p>{}</p>", escape_html(series.name),
                                escape_html(series.meaning));
  if (series.points.empty()) return out + "</section>";
  const int first = series.points.front().ranks;
  const std::vector<Line> efficiency = {
      {"measured", 0, [](const ScalingPoint& p) { return 100 * p.efficiency; }},
      {"predicted", 1, [](const ScalingPoint& p) { return 100 * p.predicted_efficiency; }},
      {"ideal", 7, [](const ScalingPoint&) { return 100.0; }}};
  const std::vector<Line> speedup = {
      {"measured", 0, [](const ScalingPoint& p) { return p.speedup; }},
      {"predicted", 1, [](const ScalingPoint& p) { return p.predicted_speedup; }},
      {"ideal", 7, [first](const ScalingPoint& p) { return static_cast<double>(p.ranks) / first; }}};
  out += "<div class=\"charts\">" + chart(series, "Speed-up", speedup) +
         chart(series, "Efficiency, %", efficiency) + "</div>";
  out += legend({{"measured", 0}, {"predicted by sonde plan", 1}, {"ideal", 7}});
  const std::vector<Line> seconds = {
      {"measured", 0, [](const ScalingPoint& p) { return p.seconds; }},
      {"predicted", 1, [](const ScalingPoint& p) { return p.predicted_seconds; }}};
  out += "<div class=\"charts\">" + chart(series, "Seconds of the slowest rank", seconds) +
         bars(report, series) + "</div>";
  std::vector<std::pair<std::string, int>> names;
  for (std::size_t i = 0; i < report.phases.size(); ++i)
    names.emplace_back(report.phases[i], static_cast<int>(i % 8));
  out += legend(names) + table(report, series);
  return out + "<h3>Bytes of the rank that exchanges most</h3>" + bytes_table(report, series) + "</section>";
}

}  // namespace

std::string render_html(const ScalingReport& report) {
  std::string out = html_head(report.title);
  out +=
      "<p class=\"lead\">Speed-up is tokens a second against the fewest ranks; efficiency is speed-up by the "
      "growth "
      "of the ranks. Time counts from when every rank has its model, to the finished store.</p>";
  out += html_facts(report.facts);
  for (const ScalingSeries& series : report.series) out += section(report, series);
  return out +
         "<footer><p>Each number is the median of the repeats, which ran in turns. Phases are the mean over "
         "the "
         "ranks: where a rank waits for others is communication, where all wait at the end is idle. The "
         "prediction "
         "is that of sonde plan with the rates of one rank, measured by sonde bench before the "
         "runs.</p></footer></main></body></html>\n";
}

void write_scaling_report(const std::filesystem::path& path, const ScalingReport& report) {
  write_file_atomically(path, render_html(report));
}

}  // namespace sonde
