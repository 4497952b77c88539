#include "io/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "io/file_util.h"
#include "io/html_chart.h"

namespace sonde {
namespace {

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--paper:#fcfcfb;--card:#fff;--ink:#1c1e21;--soft:#5d646d;--rule:#e2e4e8;--grid:#eceef1;--mark:#f3f5f8;
--c0:#0b63c4;--c1:#c8430f;--c2:#17803f;--c3:#8b35d6;--c4:#a86a00;--c5:#0c7f93;--c6:#c2246e;--c7:#5b6470}
@media(prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1b1e23;--ink:#e7e9ec;--soft:#9aa3ad;--rule:#31363e;--grid:#272b32;--mark:#22262d;
--c0:#6db3ff;--c1:#ff9466;--c2:#63d08d;--c3:#c79bff;--c4:#e9b44c;--c5:#56cbdd;--c6:#ff8abb;--c7:#a9b2bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:2.6rem 0 .3rem;padding-top:1.4rem;border-top:1px solid var(--rule)}
p{margin:.5rem 0;max-width:74ch}
.lead{font-size:1.08rem}
.soft,figcaption,.facts dt,caption{color:var(--soft)}
code{font:.88em ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--mark);border-radius:4px;padding:.08em .3em;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:.5rem 1.6rem;margin:1.2rem 0 0}
.facts dt{font-size:.8rem}.facts dd{margin:0;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:18px;margin:1rem 0 .6rem}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 12px 4px}
figcaption{font-size:.9rem;font-weight:600;padding-left:2px}
svg{display:block;width:100%;height:auto;font-size:13px}
svg text{fill:var(--soft)}
.grid{stroke:var(--grid)}.axis{font-size:13px}
.chance{stroke:var(--soft);stroke-dasharray:2 4}.chance-name{font-size:11.5px}
.line{fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}
.dot{fill:var(--c)}.band{fill:var(--c);opacity:.16}.many .band{opacity:.06}.many .dot{r:1.8px}
.mark{fill:var(--card);stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}
.c1 .line{stroke-dasharray:7 3}.c2 .line{stroke-dasharray:2 3}.c3 .line{stroke-dasharray:9 3 2 3}.c5 .line{stroke-dasharray:7 3}.c6 .line{stroke-dasharray:2 3}.c7 .line{stroke-dasharray:9 3 2 3}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;font-size:.9rem;padding:0;margin:.2rem 0 1rem;list-style:none}
.swatch{display:inline-block;width:22px;height:0;border-top:3px solid var(--c);vertical-align:.28em;margin-right:.45em}
.c1 .swatch,.c5 .swatch{border-top-style:dashed}.c2 .swatch,.c6 .swatch{border-top-style:dotted}
.legend svg{display:inline-block;width:15px;height:15px;vertical-align:-.15em;margin-right:.35em;--c:var(--soft)}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px;margin:.7rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.34rem .75rem;text-align:right;white-space:nowrap;border-top:1px solid var(--grid)}
th{color:var(--soft);font-weight:600;border-top:0}
td:first-child,th:first-child{text-align:left}
tr.best td{font-weight:650;background:var(--mark)}
summary{cursor:pointer;padding:.45rem 0;font-size:.95rem}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--rule);font-size:.88rem;color:var(--soft)}
@media(max-width:600px){main{padding:20px 14px 48px}h1{font-size:1.35rem}figure{padding:10px 4px 0}figcaption{padding-left:8px}th,td{padding:.34rem .5rem}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#bbb;--grid:#ddd;--mark:#f2f2f2;--c0:#0b63c4;--c1:#c8430f;--c2:#17803f;--c3:#8b35d6;--c4:#a86a00;--c5:#0c7f93;--c6:#c2246e;--c7:#5b6470}
body{font-size:10.5pt}main{max-width:none;padding:0}figure,tr{break-inside:avoid}.wide{overflow:visible}h2{break-after:avoid}
details::details-content{content-visibility:visible;block-size:auto}.charts{grid-template-columns:1fr 1fr}}
)";

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
  std::string out = fmt::format(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">"
      "<title>{0}</title><style>{1}</style></head><body><main><h1>{0}</h1>",
      escape_html(report.title), kStyle);
  out +=
      "<p class=\"lead\">A linear probe is trained on the hidden vectors of each layer to tell the classes "
      "apart, and measured on rows that it has not seen. "
      "Where its accuracy leaves chance behind, the model has made the concept readable.</p><dl "
      "class=\"facts\">";
  for (const auto& [key, value] : report.facts)
    out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape_html(key), escape_html(value));
  out += "</dl>";
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
