#include "models/probe/output.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "io/file_util.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// Shortest text that reads back as the same double; nothing where undefined.
std::string csv_number(double v) { return std::isnan(v) ? "" : fmt::format("{}", v); }
Json json_number(double v) { return std::isnan(v) ? Json(nullptr) : Json(v); }

struct Column {
  const char* name;
  double (*value)(const ProbeResult&);
};
// Everything measured, in the order of the columns.
constexpr Column kColumns[] = {
    {"accuracy", [](const ProbeResult& r) { return r.metrics.accuracy; }},
    {"f1", [](const ProbeResult& r) { return r.metrics.f1; }},
    {"f1_label0", [](const ProbeResult& r) { return r.metrics.f1_label0; }},
    {"auc", [](const ProbeResult& r) { return r.metrics.auc; }},
    {"log_loss", [](const ProbeResult& r) { return r.metrics.log_loss; }},
    {"objective", [](const ProbeResult& r) { return r.objective; }},
    {"gradient_max", [](const ProbeResult& r) { return r.gradient_max; }},
    {"balanced_accuracy", [](const ProbeResult& r) { return r.metrics.balanced_accuracy; }},
    {"ece", [](const ProbeResult& r) { return r.metrics.ece; }},
    {"ece_probability", [](const ProbeResult& r) { return r.metrics.ece_probability; }},
    {"accuracy_low", [](const ProbeResult& r) { return r.intervals.accuracy.low; }},
    {"accuracy_high", [](const ProbeResult& r) { return r.intervals.accuracy.high; }},
    {"balanced_accuracy_low", [](const ProbeResult& r) { return r.intervals.balanced_accuracy.low; }},
    {"balanced_accuracy_high", [](const ProbeResult& r) { return r.intervals.balanced_accuracy.high; }},
    {"f1_low", [](const ProbeResult& r) { return r.intervals.f1.low; }},
    {"f1_high", [](const ProbeResult& r) { return r.intervals.f1.high; }},
    {"auc_low", [](const ProbeResult& r) { return r.intervals.auc.low; }},
    {"auc_high", [](const ProbeResult& r) { return r.intervals.auc.high; }},
    {"log_loss_low", [](const ProbeResult& r) { return r.intervals.log_loss.low; }},
    {"log_loss_high", [](const ProbeResult& r) { return r.intervals.log_loss.high; }},
    {"train_accuracy", [](const ProbeResult& r) { return r.train_accuracy; }},
    {"majority", [](const ProbeResult& r) { return r.majority; }},
    {"shuffled_accuracy", [](const ProbeResult& r) { return r.shuffled_accuracy; }},
    {"shuffled_auc", [](const ProbeResult& r) { return r.shuffled_auc; }},
    {"selectivity", [](const ProbeResult& r) { return r.selectivity(); }},
    {"random_accuracy", [](const ProbeResult& r) { return r.random_accuracy; }},
    {"random_auc", [](const ProbeResult& r) { return r.random_auc; }},
    {"r2", [](const ProbeResult& r) { return r.r2; }},
};

Json point_json(int layer, std::size_t L) {
  if (layer < 0) return nullptr;
  return {{"layer", layer}, {"fraction", static_cast<double>(layer) / static_cast<double>(L)}};
}

Json options_json(const ProbeOptions& o) {
  return {{"kind", name(o.kind)},
          {"standardise", o.standardise},
          {"C", o.logistic.C},
          {"tolerance", o.logistic.tolerance},
          {"alpha", o.alpha},
          {"shrinkage", o.shrinkage},
          {"bootstrap", o.bootstrap},
          {"seed", o.seed},
          {"shuffled_labels", o.control_shuffled},
          {"random_features", o.control_random}};
}

bool log_odds(ProbeKind kind) { return kind == ProbeKind::logistic || kind == ProbeKind::lda; }

}  // namespace

void write_probe_csv(const std::filesystem::path& path, std::span<const ProbeRun> runs) {
  std::string out = "model,dataset,label,variant,kind,site,layer,n_train,n_test,correct,converged,iterations";
  for (const Column& column : kColumns) out += fmt::format(",{}", column.name);
  out += '\n';
  for (const ProbeRun& run : runs)
    for (const ProbeResult& r : run.results) {
      out += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}", csv_quote(run.model), csv_quote(run.dataset),
                         csv_quote(run.task.labels.column), csv_quote(run.variant), name(run.options.kind),
                         csv_quote(r.site), r.layer < 0 ? "" : std::to_string(r.layer), r.n_train, r.n_test,
                         std::isnan(r.metrics.accuracy) ? "" : std::to_string(r.metrics.correct),
                         r.converged ? 1 : 0, r.iterations);
      for (const Column& column : kColumns) out += "," + csv_number(column.value(r));
      out += '\n';
    }
  write_file_atomically(path, out);
}

void write_probe_json(const std::filesystem::path& path, std::span<const ProbeRun> runs) {
  Json out = {{"format", "sonde-probes"}, {"version", 1}, {"runs", Json::array()}};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const ProbeRun& run = runs[i];
    Json one = {{"model", run.model},
                {"dataset", run.dataset},
                {"variant", run.variant},
                {"label", run.task.labels.column},
                {"classes", run.task.labels.classes},
                {"split", run.task.split.how},
                {"options", options_json(run.options)},
                {"weights", fmt::format("{}/", i)},
                {"curves", Json::array()},
                {"results", Json::array()}};
    for (const HookCurve& curve : hook_curves(run.results))
      one["curves"].push_back(
          {{"hook", curve.hook},
           {"layers", curve.layers.size()},
           {"jump_point", point_json(curve.points.jump, curve.layers.size())},
           {"converging_point", point_json(curve.points.converging, curve.layers.size())}});
    for (const ProbeResult& r : run.results) {
      Json row = {{"site", r.site},
                  {"layer", r.layer < 0 ? Json(nullptr) : Json(r.layer)},
                  {"n_train", r.n_train},
                  {"n_test", r.n_test},
                  {"correct", r.metrics.correct},
                  {"converged", r.converged},
                  {"iterations", r.iterations}};
      for (const Column& column : kColumns) row[column.name] = json_number(column.value(r));
      one["results"].push_back(std::move(row));
    }
    out["runs"].push_back(std::move(one));
  }
  write_json(path, out);
}

void write_probe_weights(const std::filesystem::path& path, std::span<const ProbeRun> runs) {
  std::vector<NamedTensor> tensors;
  const auto view = [](const std::vector<double>& v, std::initializer_list<std::int64_t> shape) {
    return Tensor(const_cast<double*>(v.data()), DType::f64, shape);
  };
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (const ProbeResult& r : runs[i].results) {
      const std::string start = fmt::format("{}/{}/", i, r.site);
      tensors.push_back({start + "weight", view(r.model.w, {r.model.C, r.model.D})});
      tensors.push_back({start + "bias", view(r.model.b, {r.model.C})});
      tensors.push_back({start + "mean", view(r.model.mean, {r.model.D})});
      tensors.push_back({start + "scale", view(r.model.scale, {r.model.D})});
    }
  write_safetensors(path, tensors,
                    {{"format", "sonde-probes"}, {"score", "weight . (x - mean) / scale + bias"}});
}

DepthReport probe_report(std::span<const ProbeRun> runs) {
  DepthReport report;
  for (const ProbeRun& run : runs) {
    std::map<std::string, std::size_t> place;  // of each hook in this run's curves
    const std::vector<HookCurve> hooks = hook_curves(run.results);
    const std::size_t first = report.curves.size();
    for (const ProbeResult& r : run.results) {
      const std::string hook = hook_pattern(r.site);
      const auto [entry, fresh] = place.try_emplace(hook, report.curves.size());
      if (fresh) {
        ReportCurve curve{run.model,   run.dataset, run.task.labels.column,
                          run.variant, hook,        r.n_train,
                          r.n_test,    r.majority,  -1,
                          -1,          {}};
        for (const HookCurve& known : hooks)
          if (known.hook == hook) {
            curve.jump = known.points.jump;
            curve.converging = known.points.converging;
          }
        report.curves.push_back(std::move(curve));
      }
      ReportPoint p;
      p.site = r.site;
      p.layer = r.layer;
      p.accuracy = r.metrics.accuracy;
      p.accuracy_low = r.intervals.accuracy.low;
      p.accuracy_high = r.intervals.accuracy.high;
      p.auc = r.metrics.auc;
      p.auc_low = r.intervals.auc.low;
      p.auc_high = r.intervals.auc.high;
      p.f1 = r.metrics.f1;
      p.f1_label0 = r.metrics.f1_label0;
      p.log_loss = r.metrics.log_loss;
      p.ece = r.metrics.ece;
      p.shuffled_accuracy = r.shuffled_accuracy;
      p.random_accuracy = r.random_accuracy;
      p.converged = r.converged;
      report.curves[entry->second].points.push_back(std::move(p));
    }
    for (std::size_t c = first; c < report.curves.size(); ++c)
      std::stable_sort(report.curves[c].points.begin(), report.curves[c].points.end(),
                       [](const ReportPoint& a, const ReportPoint& b) { return a.layer < b.layer; });
  }
  if (runs.empty()) return report;
  const ProbeOptions& o = runs[0].options;
  const std::string strength = o.kind == ProbeKind::logistic ? fmt::format(" (L2, C = {:g})", o.logistic.C)
                               : o.kind == ProbeKind::lda    ? fmt::format(" (shrinkage {:g})", o.shrinkage)
                               : o.kind == ProbeKind::mean_difference
                                   ? ""
                                   : fmt::format(" (alpha = {:g})", o.alpha);
  std::string models;
  for (const ProbeRun& run : runs)
    if (models.find(run.model) == std::string::npos) models += (models.empty() ? "" : ", ") + run.model;
  bool raw = false, standardised = false;
  for (const ProbeRun& run : runs) (run.options.standardise ? standardised : raw) = true;
  const char* features = raw && standardised ? "standardised, and as they are"
                         : raw               ? "as they are"
                                             : "standardised on the train rows";
  report.facts = {{"model", models},
                  {"probe", std::string(name(o.kind)) + strength},
                  {"features", features},
                  {"split", runs[0].task.split.how}};
  return report;
}

std::vector<SavedProbe> read_probes(const std::filesystem::path& dir) {
  const std::filesystem::path json_path = dir / "probes.json", weights_path = dir / "probes.safetensors";
  const Json json = read_json(json_path);
  if (!json.is_object() || !json.contains("format") || json["format"] != "sonde-probes")
    fail_hint("give the folder that `sonde probe --out` wrote", "{}: key format: expected sonde-probes",
              json_path.string());
  const auto weights = Safetensors::open(weights_path);
  const auto tensor = [&](const std::string& name, std::size_t expected) {
    const SafetensorsTensor* found = weights->find(name);
    if (found == nullptr) fail("{}: tensor {} is missing", weights_path.string(), name);
    const Tensor& view = found->view;
    if (view.dtype != DType::f64 || (expected > 0 && static_cast<std::size_t>(view.count()) != expected))
      fail("{}: tensor {}: found {}, expected {} values of f64", weights_path.string(), name, view.describe(),
           expected);
    std::vector<double> values(static_cast<std::size_t>(view.count()));
    std::memcpy(values.data(), view.data, 8 * values.size());
    return values;
  };
  std::vector<SavedProbe> probes;
  try {
    for (const Json& run : json.at("runs"))
      for (const Json& row : run.at("results")) {
        SavedProbe probe;
        probe.label = run.at("label").get<std::string>();
        probe.site = row.at("site").get<std::string>();
        probe.classes = run.at("classes").get<std::vector<std::string>>();
        const ProbeKind kind = parse_probe_kind(run.at("options").at("kind").get<std::string>());
        probe.kind = log_odds(kind) ? ScoreKind::log_odds : ScoreKind::margin;
        const std::string start = run.at("weights").get<std::string>() + probe.site + "/";
        LinearModel& m = probe.model;
        m.b = tensor(start + "bias", probe.classes.size() > 2 ? probe.classes.size() : 1);
        m.mean = tensor(start + "mean", 0);
        m.C = static_cast<std::int64_t>(m.b.size());
        m.D = static_cast<std::int64_t>(m.mean.size());
        m.scale = tensor(start + "scale", m.mean.size());
        m.w = tensor(start + "weight", m.mean.size() * m.b.size());
        probes.push_back(std::move(probe));
      }
  } catch (const Json::exception& error) {
    const std::string_view what = error.what();  // "[json.exception.out_of_range.403] key 'runs' not found"
    fail_hint("give the folder that `sonde probe --out` wrote", "{}: {}", json_path.string(),
              what.substr(what.find("] ") + 2));
  }
  return probes;
}

std::string csv_quote(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::vector<ScoredRow> apply_probe(ProbeOps& ops, const SavedProbe& probe, const float* x,
                                   std::int64_t stride, std::span<const std::int64_t> rows) {
  const auto C = static_cast<std::size_t>(probe.model.C);
  const std::vector<double> scores = probe.model.scores(ops, x, stride, rows);
  std::vector<ScoredRow> out;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto first = scores.begin() + static_cast<std::ptrdiff_t>(i * C);
    ScoredRow row{rows[i], {}, -1, {first, first + static_cast<std::ptrdiff_t>(C)}};
    if (probe.classes.empty()) {
      row.prediction = fmt::format("{}", row.scores[0]);
    } else {
      const auto best = static_cast<std::size_t>(std::max_element(row.scores.begin(), row.scores.end()) -
                                                 row.scores.begin());
      row.prediction = probe.classes[C == 1 ? (row.scores[0] > 0 ? 1 : 0) : best];
      if (probe.kind == ScoreKind::log_odds) {
        double rest = C == 1 ? 1 + std::exp(-row.scores[0]) : 0;
        if (C > 1)
          for (const double s : row.scores) rest += std::exp(s - row.scores[best]);
        row.probability = 1 / rest;
      }
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace sonde
