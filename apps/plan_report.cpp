#include "apps/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/progress.h"

namespace sonde {
namespace {

constexpr std::size_t kShown = 5;  // meshes

std::string mesh_text(const PlanMesh& m) {
  return fmt::format("data {} x tensor {} x pipeline {}", m.data, m.tensor, m.pipeline);
}

// "3.2e+14 FLOP/s", "25 GB/s a rank", "20 µs a message"
std::string value_text(const Assumption& a) {
  if (a.unit.starts_with("B/s")) return human_bytes(a.value) + a.unit.substr(1);
  if (a.unit.starts_with("FLOP")) return fmt::format("{:.3g} T{}", a.value * 1e-12, a.unit);
  if (a.value < 0.1) return fmt::format("{:.3g} u{}", a.value * 1e6, a.unit);
  return fmt::format("{:.3g} {}", a.value, a.unit);
}

std::vector<Assumption> assumptions(const PlanReport& report) {
  Machine machine = report.request.machine;
  std::vector<Assumption> list;
  for (const Assumption* a : machine.assumptions()) list.push_back(*a);
  return list;
}

// Sites of one hook take the same: "blocks.{l}.hook_resid_post" x 32.
struct SiteBytes {
  std::string name;
  std::int64_t sites = 0;
  double bytes = 0;  // of all of them
};
std::vector<SiteBytes> bytes_by_hook(const PlanReport& report) {
  std::vector<SiteBytes> hooks;
  for (const StoreSite& site : report.request.schema.sites) {
    const std::string hook(info(site.site.hook).name);
    auto at = std::ranges::find(hooks, hook, &SiteBytes::name);
    if (at == hooks.end()) at = hooks.insert(hooks.end(), {hook, 0, 0});
    ++at->sites;
    at->bytes += static_cast<double>(bytes_of(report.request.schema.dtype, site.width())) *
                 static_cast<double>(report.request.work.rows);
  }
  return hooks;
}

Json to_json(const MeshPlan& plan) {
  const PhaseTimes& s = plan.seconds;
  Json memory = Json::object();
  for (const MemoryKind& kind : plan.memory) memory[kind.name] = kind.bytes;
  return {{"data", plan.mesh.data},
          {"tensor", plan.mesh.tensor},
          {"pipeline", plan.mesh.pipeline},
          {"fits", plan.fits},
          {"memory_bytes", {{"total", plan.bytes()}, {"by_kind", memory}}},
          {"seconds",
           {{"start", s.start},
            {"load", s.load},
            {"forward", s.forward},
            {"communication", s.communication},
            {"capture", s.capture},
            {"finish", s.finish},
            {"write", s.write},
            {"total", s.total()}}},
          {"link_bytes_of_a_rank",
           {{"inside_a_node", plan.links.inside},
            {"between_nodes", plan.links.between},
            {"tensor", plan.links.tensor},
            {"pipeline", plan.links.pipeline}}},
          {"tokens_per_second", plan.tokens_per_second}};
}

void print_hours(const char* what, double seconds, const char* remark = "") {
  fmt::print("  {:<22} {:>14}{}{}\n", what,
             seconds < 60 ? fmt::format("{:.2f} s", seconds) : fmt::format("{:.3f} h", seconds / 3600),
             *remark == '\0' ? "" : "   ", remark);
}

void print_meshes(const PlanReport& report) {
  fmt::print("\n{:<40} {:>12} {:>12} {:>12}\n", "meshes", "memory", "hours", "tokens/s");
  const std::size_t n = std::min(kShown, report.meshes.size());
  for (std::size_t i = 0; i < n; ++i) {
    const MeshPlan& plan = report.meshes[i];
    fmt::print("  {:<38} {:>12} {:>12} {:>12}{}\n", mesh_text(plan.mesh),
               describe_bytes(static_cast<double>(plan.bytes())),
               plan.fits ? fmt::format("{:.3g}", plan.seconds.total() / 3600) : "-",
               plan.fits ? fmt::format("{:.0f}", plan.tokens_per_second) : "-",
               plan.fits ? "" : "   does not fit");
  }
  if (n < report.meshes.size()) fmt::print("  and {} more\n", report.meshes.size() - n);
}

}  // namespace

StorePlan PlanReport::store() const {
  return plan_store(request.schema, request.work, meshes.front().mesh.ranks(), document_id_bytes);
}

std::string describe_bytes(double bytes) { return human_bytes(bytes); }

std::string describe_memory(const std::vector<MemoryKind>& kinds) {
  std::string text;
  for (const MemoryKind& kind : kinds)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", kind.name,
                        describe_bytes(static_cast<double>(kind.bytes)));
  return text;
}

Json to_json(const PlanReport& report) {
  const PlanRequest& r = report.request;
  const MeshPlan& best = report.meshes.front();
  std::vector<Site> sites;
  for (const StoreSite& site : r.schema.sites) sites.push_back(site.site);
  const Flops flops = flops_of(*r.spec, r.work, sites);
  const StorePlan store = report.store();
  const auto tokens = static_cast<double>(r.work.tokens);
  const double rank_hours = static_cast<double>(r.machine.ranks()) * best.seconds.total() / 3600;

  Json json;
  json["model"] = report.model;
  json["parameters"] = parameter_count(*r.spec);
  json["layers"] = r.spec->n_layers;
  json["d_model"] = r.spec->d_model;
  json["model_bytes"] = r.model_bytes;
  json["device"] = {{"name", r.machine.name},
                    {"nodes", r.machine.nodes},
                    {"ranks_per_node", r.machine.ranks_per_node},
                    {"measured_ranks_per_node", r.machine.measured_ranks},
                    {"memory_bytes", r.machine.memory}};
  json["dtype"] = report.dtype;
  json["work"] = {{"documents", r.work.documents},
                  {"tokens", r.work.tokens},
                  {"rows", r.work.rows},
                  {"batches", r.work.batches},
                  {"longest_document", r.work.longest},
                  {"largest_batch", r.work.largest_batch}};
  json["flops"] = {{"per_token", flops.total() / tokens},
                   {"linear", flops.linear},
                   {"attention", flops.attention},
                   {"head", flops.head},
                   {"total", flops.total()}};
  json["cache_bytes_per_token"] = cache_bytes(*r.spec, 1);
  json["store"] = {{"dtype", name(r.schema.dtype)},    {"bytes", store.total()}, {"row_bytes", store.rows},
                   {"overhead_bytes", store.overhead}, {"shards", store.shards}, {"files", store.files}};
  json["store"]["by_hook"] = Json::array();
  for (const SiteBytes& hook : bytes_by_hook(report))
    json["store"]["by_hook"].push_back({{"hook", hook.name}, {"sites", hook.sites}, {"bytes", hook.bytes}});
  json["best"] = to_json(best);
  json["runners_up"] = Json::array();
  for (std::size_t i = 1; i < std::min(kShown, report.meshes.size()); ++i)
    json["runners_up"].push_back(to_json(report.meshes[i]));
  json[r.machine.gpu ? "gpu_hours" : "rank_hours"] = rank_hours;
  json["host_memory_bytes_of_a_rank"] = store_memory(r.schema);
  json["assumptions"] = Json::array();
  for (const Assumption& a : assumptions(report))
    json["assumptions"].push_back(
        {{"what", a.what}, {"value", a.value}, {"unit", a.unit}, {"source", a.source}});
  return json;
}

void print(const PlanReport& report) {
  const PlanRequest& r = report.request;
  const MeshPlan& best = report.meshes.front();
  const Json json = to_json(report);
  const auto number = [&](const char* a, const char* b) { return json[a][b].get<double>(); };
  const char* device = r.machine.gpu ? "GPU" : "rank";
  fmt::print("{} ({} parameters) in {} on {} node{} x {} {}{}\n", report.model,
             json["parameters"].get<std::int64_t>(), report.dtype, r.machine.nodes,
             r.machine.nodes == 1 ? "" : "s", r.machine.ranks_per_node, r.machine.name,
             r.machine.gpu ? " of " + describe_bytes(static_cast<double>(r.machine.memory)) : "");
  fmt::print("{} tokens in {} documents {}; {} rows at {} sites, longest document {}, batches of up to {}\n",
             r.work.tokens, r.work.documents, report.documents, r.work.rows, r.schema.sites.size(),
             r.work.longest, r.work.largest_batch);
  fmt::print("\nbest mesh: {}\n\nmemory of a {}\n", mesh_text(best.mesh), device);
  for (const MemoryKind& kind : best.memory)
    fmt::print("  {:<22} {:>14}\n", kind.name, describe_bytes(static_cast<double>(kind.bytes)));
  fmt::print("  {:<22} {:>14}   of {}\n", "total", describe_bytes(static_cast<double>(best.bytes())),
             describe_bytes(static_cast<double>(r.machine.memory)));
  if (r.machine.gpu)
    fmt::print("  and of the host's: {} of staging buffers for the store\n",
               describe_bytes(static_cast<double>(store_memory(r.schema))));
  fmt::print("  a cached token takes {} (--cache-tokens)\n",
             describe_bytes(static_cast<double>(cache_bytes(*r.spec, 1))));

  fmt::print("\nwork\n  {:<22} {:>14.4g}   {:.4g} a token\n", "FLOPs", number("flops", "total"),
             number("flops", "per_token"));
  for (const char* part : {"linear", "attention", "head"})
    fmt::print("    {:<20} {:>14.4g}\n", part, number("flops", part));
  fmt::print("\nbytes that a {} sends or receives, whichever is more\n  {:<22} {:>14}\n  {:<22} {:>14}\n",
             device, "inside its node", describe_bytes(best.links.inside), "to other nodes",
             describe_bytes(best.links.between));
  fmt::print("\nbytes to the disk, {}\n", name(r.schema.dtype));
  for (const SiteBytes& hook : bytes_by_hook(report))
    fmt::print("  {:<38} x {:<4} {:>12}\n", hook.name, hook.sites, describe_bytes(hook.bytes));
  fmt::print("  {:<45} {:>12}   in {} files\n", "store, with rows' metadata, sums and index",
             describe_bytes(report.store().total()), report.store().files);

  const PhaseTimes& s = best.seconds;
  fmt::print("\ntime of a {}\n", device);
  print_hours("start", s.start);
  print_hours("load", s.load);
  print_hours("forward", s.forward);
  print_hours("communication", s.communication);
  print_hours("capture", s.capture);
  print_hours("finish", s.finish);
  print_hours("write", s.write,
              s.write > s.compute() + s.finish ? "the disk is the limit" : "beside the forward");
  print_hours("total", s.total());
  fmt::print("  {:.0f} tokens/s, {:.3g} {} hours\n", best.tokens_per_second,
             json[r.machine.gpu ? "gpu_hours" : "rank_hours"].get<double>(), device);
  print_meshes(report);
  fmt::print("\nassumptions\n");
  for (const Assumption& a : assumptions(report))
    fmt::print("  {:<20} {:<22} {}\n", a.what, value_text(a), a.source);
}

}  // namespace sonde
