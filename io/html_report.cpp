#include "io/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "io/file_util.h"
#include "io/html_chart.h"
#include "io/html_page.h"

namespace sonde {
namespace {

std::string percent(double v) { return std::isnan(v) ? "–" : fmt::format("{:.1f}\u00a0%", 100 * v); }
std::string number(double v) { return std::isnan(v) ? "–" : fmt::format("{:.3f}", v); }
std::string range(double low, double high) {
  return std::isnan(low) ? "–" : fmt::format("{:.1f}\u00a0–\u00a0{:.1f}\u00a0%", 100 * low, 100 * high);
}

std::vector<const ReportPoint*> layers(const ReportCurve& curve) {
  std::vector<const ReportPoint*> out;
  for (const ReportPoint& p : curve.points)
    if (p.layer >= 0) out.push_back(&p);
  return out;
}

// The point with the highest value; the first of equals.
const ReportPoint* best_of(const ReportCurve& curve, double ReportPoint::*value) {
  const ReportPoint* best = nullptr;
  for (const ReportPoint& p : curve.points)
    if (!std::isnan(p.*value) && (best == nullptr || p.*value > best->*value)) best = &p;
  return best;
}

// What tells the curves of one chart apart: the parts of their names that differ, always something.
std::string curve_name(const ReportCurve& curve, const std::vector<const ReportCurve*>& group) {
  std::string out;
  for (const auto part : {&ReportCurve::model, &ReportCurve::hook, &ReportCurve::variant}) {
    const bool differs = std::any_of(group.begin(), group.end(),
                                     [&](const ReportCurve* c) { return c->*part != curve.*part; });
    if ((differs || (part == &ReportCurve::hook && group.size() == 1)) && !(curve.*part).empty())
      out += (out.empty() ? "" : ", ") + curve.*part;
  }
  return out.empty() ? curve.hook : out;
}

std::string layer_of(int layer, std::size_t L) {
  return layer < 0 ? "–"
                   : fmt::format("{} ({:.2f} L)", layer, static_cast<double>(layer) / static_cast<double>(L));
}

// "Accuracy starts at 33.7 % in layer 0, is highest in layer 14 with 82.1 % (79.0 to 85.1), ..."
std::string in_words(const ReportCurve& curve, const std::string& name) {
  const auto points = layers(curve);
  const ReportPoint* best = best_of(curve, &ReportPoint::accuracy);
  if (best == nullptr) return {};
  std::string text = fmt::format("<b>{}.</b> ", escape_html(name));
  if (points.size() < 2)
    return text + fmt::format("Accuracy is {} (chance {}).", percent(best->accuracy), percent(curve.chance));
  text += fmt::format("Accuracy starts at {} in layer {}, is highest in layer {} with {}",
                      percent(points.front()->accuracy), points.front()->layer, best->layer,
                      percent(best->accuracy));
  if (!std::isnan(best->accuracy_low))
    text += fmt::format(" (95\u00a0% interval {})", range(best->accuracy_low, best->accuracy_high));
  text += fmt::format(" and ends at {}; always naming the most frequent class gets {}. ",
                      percent(points.back()->accuracy), percent(curve.chance));
  // The interval is for one layer: with L layers, the best of L lucky ones may leave chance behind too.
  if (!std::isnan(best->accuracy_low) && best->accuracy_low <= curve.chance)
    text += "No layer is clearly better than chance. ";
  text += curve.jump < 0 ? "There is no jump point" : fmt::format("It jumps in layer {}", curve.jump);
  text += curve.converging < 0
              ? ", and no layer changes it by 3\u00a0% or more."
              : fmt::format(", and layer {} is the last to change it by 3\u00a0% or more.", curve.converging);
  const bool all_converged =
      std::all_of(curve.points.begin(), curve.points.end(), [](const auto& p) { return p.converged; });
  if (!all_converged) text += " <b>Some of these probes did not converge.</b>";
  return text;
}

bool starts_below_chance(const ReportCurve* curve) {
  const auto points = layers(*curve);
  return !points.empty() && points.front()->accuracy_high < curve->chance;
}

std::string summary_table(const std::vector<const ReportCurve*>& group) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>curve</th><th>first layer</th><th>best</th><th>in "
      "layer</th><th>95\u00a0% interval</th><th>last layer</th>"
      "<th>best AUC</th><th>jump point</th><th>converging point</th></tr>";
  for (const ReportCurve* curve : group) {
    const auto points = layers(*curve);
    const ReportPoint *best = best_of(*curve, &ReportPoint::accuracy),
                      *auc = best_of(*curve, &ReportPoint::auc);
    if (best == nullptr) continue;
    const std::size_t L = points.size();
    out += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</"
        "td></tr>",
        escape_html(curve_name(*curve, group)), points.empty() ? "–" : percent(points.front()->accuracy),
        percent(best->accuracy), best->layer < 0 ? "–" : std::to_string(best->layer),
        range(best->accuracy_low, best->accuracy_high),
        points.empty() ? "–" : percent(points.back()->accuracy), auc == nullptr ? "–" : number(auc->auc),
        layer_of(curve->jump, L), layer_of(curve->converging, L));
  }
  return out + "</table></div>";
}

std::string layer_table(const ReportCurve& curve, const std::string& name, bool open) {
  const ReportPoint* best = best_of(curve, &ReportPoint::accuracy);
  const bool shuffled = std::any_of(curve.points.begin(), curve.points.end(),
                                    [](const auto& p) { return !std::isnan(p.shuffled_accuracy); });
  const bool random = std::any_of(curve.points.begin(), curve.points.end(),
                                  [](const auto& p) { return !std::isnan(p.random_accuracy); });
  std::string out = fmt::format(
      "<details{}><summary>Every layer: {}</summary><div "
      "class=\"wide\"><table><tr><th>{}</th><th>accuracy</th><th>95\u00a0% interval</th>"
      "<th>AUC</th><th>F1</th><th>F1 of label 0</th><th>log-loss</th><th>ECE</th>{}{}</tr>",
      open ? " open" : "", escape_html(name),
      curve.points.size() == 1 && curve.points[0].layer < 0 ? "site" : "layer",
      shuffled ? "<th>shuffled labels</th><th>selectivity</th>" : "",
      random ? "<th>random features</th>" : "");
  for (const ReportPoint& p : curve.points) {
    out += fmt::format(
        "<tr{}><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
        &p == best ? " class=\"best\"" : "", p.layer < 0 ? escape_html(p.site) : std::to_string(p.layer),
        p.converged ? "" : " (not converged)", percent(p.accuracy), range(p.accuracy_low, p.accuracy_high),
        number(p.auc), number(p.f1), number(p.f1_label0), number(p.log_loss), number(p.ece));
    if (shuffled)
      out += fmt::format("<td>{}</td><td>{}</td>", percent(p.shuffled_accuracy),
                         percent(p.accuracy - p.shuffled_accuracy));
    if (random) out += fmt::format("<td>{}</td>", percent(p.random_accuracy));
    out += "</tr>";
  }
  return out + "</table></div></details>";
}

std::string legend(const std::vector<const ReportCurve*>& group) {
  std::string out = "<ul class=\"legend\">";
  for (std::size_t i = 0; i < group.size(); ++i)
    out += fmt::format("<li class=\"c{}\"><span class=\"swatch\"></span>{}</li>", i % 8,
                       escape_html(curve_name(*group[i], group)));
  out +=
      "<li class=\"soft\"><svg viewBox=\"-8 -8 16 16\"><path class=\"mark\" d=\"M0 -6l6.5 "
      "11h-13z\"/></svg>jump point</li>"
      "<li class=\"soft\"><svg viewBox=\"-8 -8 16 16\"><path class=\"mark\" d=\"M0 -6.5l6.5 6.5l-6.5 "
      "6.5l-6.5 -6.5z\"/></svg>converging point</li>";
  return out + "</ul>";
}

std::string section(const std::vector<const ReportCurve*>& group) {
  const ReportCurve& first = *group.front();
  std::string out =
      fmt::format("<section><h2>{}{}</h2>", escape_html(first.dataset),
                  first.label.empty() || first.label == "label" ? "" : ": " + escape_html(first.label));
  out += fmt::format("<p class=\"soft\">{} rows to train, {} to test</p>", first.n_train, first.n_test);
  for (const ReportCurve* curve : group)
    out += fmt::format("<p>{}</p>", in_words(*curve, curve_name(*curve, group)));
  if (std::any_of(group.begin(), group.end(), starts_below_chance))
    out +=
        "<p class=\"soft\">Below chance in the first layer is no error by itself: where statements come in "
        "pairs with opposite labels and the split parts the pairs, "
        "a probe that only remembers the subject is wrong on purpose. A split by groups shows it.</p>";
  std::vector<const ReportCurve*> drawn;
  for (const ReportCurve* curve : group)
    if (layers(*curve).size() > 1) drawn.push_back(curve);
  if (!drawn.empty()) {
    out += "<div class=\"charts\">" + render_chart(drawn, ChartValue::accuracy) +
           render_chart(drawn, ChartValue::auc) + "</div>" + legend(drawn);
    out += summary_table(group);
  }
  for (const ReportCurve* curve : group)
    out += layer_table(*curve, curve_name(*curve, group), group.size() == 1);
  return out + "</section>";
}

}  // namespace

std::string render_html(const DepthReport& report) {
  std::vector<std::vector<const ReportCurve*>> groups;  // by dataset and label, in order of first appearance
  std::map<std::pair<std::string, std::string>, std::size_t> place;
  for (const ReportCurve& curve : report.curves) {
    const auto [entry, fresh] = place.try_emplace({curve.dataset, curve.label}, groups.size());
    if (fresh) groups.emplace_back();
    groups[entry->second].push_back(&curve);
  }
  std::string out = html_head(report.title);
  out +=
      "<p class=\"lead\">A linear probe is trained on the hidden vectors of each layer to tell the classes "
      "apart, and measured on rows that it has not seen. "
      "Where its accuracy leaves chance behind, the model has made the concept readable.</p>";
  out += html_facts(report.facts);
  for (const auto& group : groups) out += section(group);
  out +=
      "<footer><p>Bands and intervals: 95\u00a0% of bootstrap draws of the test rows (the probe stays as "
      "trained). Jump point: the first layer whose accuracy is at least 1.1 times "
      "that of the layer before. Converging point: the last layer whose accuracy differs from the one before "
      "by 3\u00a0% or more. Both are fragile: one test row can move them, so compare the curves first. "
      "AUC: the probability that a positive row scores above a negative one; 0.5 is "
      "chance.</p></footer></main></body></html>\n";
  return out;
}

void write_html_report(const std::filesystem::path& path, const DepthReport& report) {
  write_file_atomically(path, render_html(report));
}

}  // namespace sonde
