// The planner against numbers worked out by hand for Llama 3 8B.
#include "models/plan/plan.h"

#include <gmock/gmock.h>

#include <fstream>

#include "models/family.h"
#include "models/model.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using testing::HasSubstr;

constexpr const char* kConfig = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
  "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05,
  "rope_theta": 500000.0, "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";

// By hand: q and o 4096^2 each, k and v 4096 x 1024 each, gate, up and down 4096 x 14336 each.
constexpr std::int64_t kLayer = 2 * 16777216 + 2 * 4194304 + 3 * 58720256, kLinear = 32 * kLayer;
constexpr std::int64_t kNorms = 65 * 4096, kVocabulary = std::int64_t{128256} * 4096;

ModelSpec llama_8b() {
  const auto file = std::filesystem::path(testing::TempDir()) / "plan-llama-8b.json";
  std::ofstream(file) << kConfig;
  return read_spec(ModelFiles::open_config(file), {});
}

std::vector<Site> residuals(const ModelSpec& spec) {
  return match_sites("blocks.*.hook_resid_post", spec.sites(), static_cast<int>(spec.n_layers));
}

PlanRequest request_for(const ModelSpec& spec, const char* sites, const char* select, std::int64_t tokens) {
  PlanRequest request;
  request.spec = &spec;
  ExtractionOptions options;
  options.sites = match_sites(sites, spec.sites(), static_cast<int>(spec.n_layers));
  options.tokens = TokenSelector::parse(select);
  request.work = uniform_work(tokens, 512, spec, options);
  for (const Site site : options.sites)
    request.schema.sites.push_back({site, name(site), row_shape(site.hook, spec.hook_sizes(512))});
  request.schema.dtype = DType::bf16;
  request.schema.total_rows = request.work.rows;
  request.schema.n_batches = request.work.batches;
  request.memory = {.precision = Precision::bf16, .embed_bytes = 2, .gpu = true};
  request.machine = gpu_machine(find_gpu("h100"), Precision::bf16);
  request.machine.nodes = 8;
  request.machine.ranks_per_node = 4;
  request.model_bytes = 2.0 * static_cast<double>(parameter_count(spec));
  return request;
}

TEST(Plan, AConfigAloneGivesTheModel) {
  const ModelSpec spec = llama_8b();
  EXPECT_EQ(parameter_count(spec), 8030261248);
  EXPECT_EQ(parameter_count(spec), kLinear + kNorms + 2 * kVocabulary);
}

TEST(Plan, WeightsOfARank) {
  const ModelSpec spec = llama_8b();
  const MemoryOptions bf16{.precision = Precision::bf16, .embed_bytes = 2, .gpu = true};
  const Stage all = Stage::of(spec, 0, 1);
  const RunPart no_head{.head = false};
  EXPECT_EQ(weight_bytes(spec, bf16, 1, all, false), 2 * kLinear + 4 * kNorms);
  EXPECT_EQ(weight_bytes(spec, bf16, 1, all, true), 2 * kLinear + 4 * kNorms + 2 * kVocabulary);
  EXPECT_EQ(weight_bytes(spec, bf16, 4, all, false), 2 * kLinear / 4 + 4 * kNorms);
  // fp8: a byte a value and a scale a row, 43008 rows a layer; the head in bf16.
  MemoryOptions fp8 = bf16;
  fp8.precision = Precision::fp8;
  EXPECT_EQ(weight_bytes(spec, fp8, 1, all, true), kLinear + 32 * 4 * 43008 + 4 * kNorms + 2 * kVocabulary);
  EXPECT_EQ(gpu_machine(find_gpu("h100"), Precision::fp8).products.value, 0.5 * 1979e12);
  EXPECT_THROW(gpu_machine(find_gpu("a100"), Precision::fp8), UsageError);
  // Half of the layers; the last stage has the final norm.
  EXPECT_EQ(weight_bytes(spec, bf16, 1, Stage::of(spec, 0, 2, no_head), false), kLinear + 4 * 2 * 16 * 4096);
  EXPECT_EQ(weight_bytes(spec, bf16, 1, Stage::of(spec, 1, 2, no_head), false),
            kLinear + 4 * (2 * 16 + 1) * 4096);
  // 16 ranks have 8 heads of keys: each holds one, and two heads of queries.
  const ModelSpec share = tensor_share(spec, 16);
  EXPECT_EQ(share.n_kv_heads, 1);
  EXPECT_EQ(share.n_heads, 2);
  EXPECT_EQ(cache_bytes(spec, 1), 2 * 32 * 1024 * 4);
}

// The layers of each stage.
std::vector<std::int64_t> cut(const ModelSpec& spec, int stages, const RunPart& run) {
  std::vector<std::int64_t> layers;
  std::int64_t next = 0;
  for (int s = 0; s < stages; ++s) {
    const Stage stage = Stage::of(spec, s, stages, run);
    EXPECT_EQ(stage.layers.begin, next);
    next = stage.layers.end;
    layers.push_back(stage.layers.size());
  }
  EXPECT_EQ(next, run.layers_of(spec));
  return layers;
}

TEST(Plan, StagesHaveEvenWork) {
  const ModelSpec spec = llama_8b();
  using Layers = std::vector<std::int64_t>;
  EXPECT_EQ(cut(spec, 4, {.head = false}), (Layers{8, 8, 8, 8}));
  // The head is 2.4 layers: (32 + 2.4) / 4 = 8.6 for each stage.
  EXPECT_EQ(cut(spec, 4, {}), (Layers{8, 9, 8, 7}));
  EXPECT_EQ(cut(spec, 2, {}), (Layers{17, 15}));
  EXPECT_EQ(cut(spec, 4, {.rows = 1.0 / 512, .head = true}), (Layers{7, 8, 8, 9}));  // of single tokens
  EXPECT_EQ(cut(spec, 3, {.layers = 10, .head = false}), (Layers{3, 3, 4}));
  EXPECT_EQ(cut(spec, 3, {.layers = 0, .head = false}), (Layers{0, 0, 0}));
  // The last stage keeps the last layer, whatever the head weighs.
  EXPECT_EQ(cut(spec, 32, {}).back(), 1);
  EXPECT_EQ(cut(spec, 40, {.layers = 2, .head = false}).back(), 1);
}

TEST(Plan, UnevenSharesAreTheLargest) {
  ModelSpec spec = llama_8b();
  const ModelSpec share = tensor_share(spec, 3);
  EXPECT_EQ(share.n_heads, 11);    // 32 heads: 10, 11, 11
  EXPECT_EQ(share.n_kv_heads, 4);  // that read 3, 4 and 3 of the 8 heads of keys
  EXPECT_EQ(share.d_mlp, 4779);
  EXPECT_EQ(share.vocab, 42752);
}

TEST(Plan, FlopsAndKeys) {
  const ModelSpec spec = llama_8b();
  const PlanRequest all = request_for(spec, "blocks.*.hook_resid_post", "all", 1 << 20);
  EXPECT_EQ(all.work.documents, 2048);
  EXPECT_EQ(all.work.rows, 1 << 20);
  EXPECT_EQ(all.work.batches, 512);
  EXPECT_DOUBLE_EQ(all.work.keys_seen(0), 2048.0 * (512 * 513 / 2));
  EXPECT_DOUBLE_EQ(all.work.keys_seen(4), 2048.0 * (1 + 2 + 3 + 509 * 4));
  const Flops flops = flops_of(spec, all.work, residuals(spec));
  EXPECT_DOUBLE_EQ(flops.linear, 2.0 * kLinear * (1 << 20));
  EXPECT_DOUBLE_EQ(flops.attention, 32.0 * 4 * 4096 * 2048 * 131328);
  EXPECT_EQ(flops.head, 0);

  // Of the last layer only q, k and v run for tokens that nobody records.
  const PlanRequest last = request_for(spec, "blocks.*.hook_resid_post,logits", "last", 1 << 20);
  const double tail = 2.0 * (16777216 + 3.0 * 58720256);
  const Flops few = flops_of(spec, last.work, std::vector<Site>{{Hook::resid_post, 31}, {Hook::logits}});
  EXPECT_DOUBLE_EQ(few.linear, flops.linear - tail * ((1 << 20) - 2048));
  EXPECT_DOUBLE_EQ(few.head, 2.0 * 2048 * kVocabulary);
  // A site in the middle ends the forward there.
  const Flops half = flops_of(spec, all.work, std::vector<Site>{{Hook::resid_post, 15}});
  EXPECT_DOUBLE_EQ(half.linear, flops.linear / 2);
}

TEST(Plan, KeysInTiles) {
  Work work;
  work.sequences = {{10, 3}, {25, 1}};
  // By hand, tiles of 12 queries by 32 keys: 10 queries meet 32 keys as scores and 10 as weights; of 25 the
  // first 12 meet 32 and 12, the next 32 and 24, the last one 32 and 25.
  EXPECT_DOUBLE_EQ(work.keys_multiplied(0, {12, 32}),
                   3 * 10 * 21.0 + (12 * (32 + 12) + 12 * (32 + 24) + 32 + 25) / 2.0);
  EXPECT_DOUBLE_EQ(work.keys_multiplied(0, {}), work.keys_seen(0));
  // A window of 4 from query 24 on begins at key 21: 4 keys in a panel of 4 from 20, one in the next.
  work.sequences = {{25, 1}};
  EXPECT_DOUBLE_EQ(work.keys_multiplied(4, {24, 4}), (24 * (24 + 24) + 8 + 5) / 2.0);
}

TEST(Plan, BytesOfTheStoreAndOfTheLinks) {
  const ModelSpec spec = llama_8b();
  const PlanRequest r = request_for(spec, "blocks.*.hook_resid_post", "all", 1 << 20);
  const StorePlan store = plan_store(r.schema, r.work, 32, 8);
  EXPECT_DOUBLE_EQ(store.rows, double{1 << 20} * (32 * 4096 * 2 + 16));
  EXPECT_LT(store.overhead, 0.02 * store.rows);  // 512 batches keep their sums

  // Two all-reduces a layer and one for the embedding, each of T x D floats; a ring of 4 sends 2 x 3/4 of
  // that.
  const MeshPlan tensor = plan_mesh(r, {8, 4, 1});
  EXPECT_DOUBLE_EQ(tensor.links.inside, 65.0 * (1 << 17) * 4096 * 4 * 1.5);
  EXPECT_EQ(tensor.links.between, 0);
  const MeshPlan pipeline = plan_mesh(r, {4, 1, 8});
  EXPECT_EQ(pipeline.links.inside, 0);
  // The stream, and of 32 layers' captured rows what 7 of the 8 stages have.
  EXPECT_DOUBLE_EQ(pipeline.links.between, double{1 << 18} * 4096 * 4 * (1 + 28));
  const MeshPlan data = plan_mesh(r, {32, 1, 1});
  EXPECT_EQ(data.links.inside + data.links.between, 0);
  // Products of 1/32 of the tokens at half of 989 TFLOP/s, and never less than that.
  EXPECT_GT(data.seconds.forward, 2.0 * kLinear * (1 << 15) / (0.5 * 989e12));
  EXPECT_LT(data.seconds.forward, 1.5 * 2.0 * kLinear * (1 << 15) / (0.5 * 989e12));
}

TEST(Plan, TheBestMeshFitsAndIsTheQuickest) {
  const ModelSpec spec = llama_8b();
  PlanRequest r = request_for(spec, "blocks.*.hook_resid_post", "all", std::int64_t{1} << 31);
  r.machine.filesystem.value = r.machine.disk.value = 1e13;  // no limit: the forward decides
  const std::vector<MeshPlan> plans = plan_meshes(r);
  ASSERT_FALSE(plans.empty());
  EXPECT_EQ(plans[0].mesh.data, 32);  // an 8B model fits a GPU: nothing to communicate
  for (std::size_t i = 1; i < plans.size(); ++i) {
    EXPECT_EQ(plans[i].mesh.ranks(), 32);
    EXPECT_LE(plans[0].seconds.total(), 1.021 * plans[i].seconds.total());
  }
  r.machine.memory = 8000000000;  // not a whole copy any more
  const std::vector<MeshPlan> split = plan_meshes(r);
  ASSERT_TRUE(split[0].fits);
  EXPECT_GE(split[0].mesh.tensor * split[0].mesh.pipeline, 2);
  EXPECT_LE(split[0].bytes(), r.machine.memory);
}

TEST(Plan, WhatDoesNotFitSaysWhatWould) {
  const ModelSpec spec = llama_8b();
  PlanRequest r = request_for(spec, "blocks.*.hook_resid_post", "all", 1 << 20);
  r.machine.nodes = 1;
  r.machine.memory = 4000000000;
  ASSERT_FALSE(plan_meshes(r)[0].fits);
  const std::vector<std::string> ways = what_would_fit(r);
  ASSERT_GE(ways.size(), 2u);
  EXPECT_THAT(ways[0], HasSubstr("nodes (data"));
  EXPECT_THAT(ways[1], HasSubstr("GB a GPU"));
  // What is offered holds.
  r.machine.nodes = std::stoll(ways[0]);
  EXPECT_TRUE(plan_meshes(r)[0].fits) << ways[0];
}

TEST(Plan, ABenchReplacesWhatIsAssumed) {
  Machine m = cpu_machine("CPU", 1e11, 1e10, "a test");
  use_bench(m, {{"rates", {{"products_flops", 5e10}, {"disk_bytes", 2e9}}}}, "bench.json");
  EXPECT_EQ(m.products.value, 5e10);
  EXPECT_EQ(m.disk.value, 2e9);
  EXPECT_THAT(m.products.source, HasSubstr("bench.json"));
  EXPECT_THAT(m.attention.source, HasSubstr("assumed"));
  EXPECT_THROW(use_bench(m, {{"tokens_per_s", 1}}, "old.json"), Error);
  EXPECT_THROW(use_bench(m, {{"rates", {{"products_flops", -1}}}}, "bad.json"), Error);
  EXPECT_THROW(find_gpu("B9000"), UsageError);
}

TEST(Plan, RatesAreOfSoManyRanksAtOnce) {
  Machine m = cpu_machine("CPU", 1e11, 1e10, "a test");
  const Json bench = {{"ranks_per_node", 4}, {"rates", {{"products_flops", 5e10}, {"crowded", 0.8}}}};
  use_bench(m, bench, "bench.json");
  EXPECT_EQ(m.measured_ranks, 4);
  EXPECT_THAT(m.products.source, HasSubstr("4 ranks"));
  m.ranks_per_node = 4;
  share_cores(m, 1, 2);  // as they were measured
  EXPECT_EQ(m.products.value, 5e10);
  m.ranks_per_node = 2;  // no turns any more, both cores at work still
  share_cores(m, 1, 2);
  EXPECT_DOUBLE_EQ(m.products.value, 1e11);
  use_bench(m, bench, "bench.json");
  m.ranks_per_node = 1;  // and nothing on the other core
  share_cores(m, 1, 2);
  EXPECT_DOUBLE_EQ(m.products.value, 1e11 / 0.8);
  EXPECT_THROW(use_bench(m, {{"ranks_per_node", "4"}, {"rates", Json::object()}}, "bad.json"), Error);
}

}  // namespace
}  // namespace sonde
