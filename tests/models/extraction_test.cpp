// The plan of a run: cut, batched and shared out by documents and options alone.
#include "models/extraction.h"

#include <gtest/gtest.h>

#include "models/transformer.h"
#include "runtime/error.h"

namespace sonde {
namespace {

ModelSpec small_spec() {
  ModelSpec spec;
  spec.n_layers = 2, spec.d_model = 8, spec.n_heads = 2, spec.n_kv_heads = 1, spec.d_head = 4,
  spec.d_mlp = 16;
  spec.vocab = 50, spec.context = 32;
  return spec;
}

Inputs documents(std::initializer_list<int> lengths) {
  Inputs inputs;
  inputs.documents.starts = {0};
  for (int n : lengths) {
    inputs.documents.ids.push_back("d" + std::to_string(inputs.documents.ids.size()));
    for (int i = 0; i < n; ++i) inputs.documents.tokens.push_back(i % 50);
    inputs.documents.starts.push_back(static_cast<std::int64_t>(inputs.documents.tokens.size()));
  }
  return inputs;
}

ExtractionOptions every_token() {
  ExtractionOptions options;
  options.tokens = TokenSelector::parse("all");
  options.sites = {{Hook::resid_post, 0}};
  return options;
}

TEST(Plan, BatchesKeepToTheBudgetUnlessOneSequenceIsLonger) {
  ExtractionOptions options = every_token();
  options.batch_tokens = 10;
  const ExtractionPlan plan = plan_extraction(small_spec(), documents({4, 6, 1, 20, 3}), options);
  EXPECT_EQ(plan.batch_sequence, (std::vector<std::int64_t>{0, 2, 3, 4, 5}));
  EXPECT_EQ(plan.batch_row, (std::vector<std::int64_t>{0, 10, 11, 31, 34}));
  EXPECT_EQ(plan.longest, 20);
  EXPECT_EQ(plan.largest_batch, 20);
  EXPECT_EQ(plan.tokens, 34);
}

TEST(Plan, PartsTogetherAreTheWholeRun) {
  ExtractionOptions options = every_token();
  options.batch_tokens = 8;
  const Inputs inputs = documents({5, 7, 3, 8, 8, 2, 6, 1, 9});
  const ExtractionPlan whole = plan_extraction(small_spec(), inputs, options);
  for (std::int64_t parts : {1, 2, 3, 20}) {
    std::int64_t next = 0, rows = 0;
    for (std::int64_t part = 0; part < parts; ++part) {
      options.part = part, options.parts = parts;
      const ExtractionPlan share = plan_extraction(small_spec(), inputs, options);
      EXPECT_EQ(share.first_batch, next);
      EXPECT_EQ(share.batch_row, whole.batch_row);
      EXPECT_EQ(share.longest, whole.longest);
      next = share.end_batch;
      rows += share.rows();
    }
    EXPECT_EQ(next, whole.end_batch);
    EXPECT_EQ(rows, whole.rows());
  }
}

TEST(Plan, PiecesWithoutRecordedTokensDoNotRun) {
  ExtractionOptions options = every_token();
  options.overflow = Overflow::split;
  options.context = 8;
  options.tokens = TokenSelector::parse("last");
  const ExtractionPlan plan = plan_extraction(small_spec(), documents({20, 8, 3}), options);
  ASSERT_EQ(plan.sequences.size(), 4u);  // one each, and the sentinel
  EXPECT_EQ(plan.sequences[0].begin, 16);
  EXPECT_EQ(plan.sequences[0].end, 20);
  EXPECT_EQ(plan.tokens, 4 + 8 + 3);
}

TEST(Plan, EmptyAndOverlongDocumentsAreErrorsThatNameThem) {
  const auto message = [](const Inputs& inputs, const ExtractionOptions& options) -> std::string {
    try {
      plan_extraction(small_spec(), inputs, options);
    } catch (const Error& error) {
      return error.what() + (". HINT: " + error.hint());
    }
    return "";
  };
  ExtractionOptions options = every_token();
  EXPECT_NE(message(documents({3, 0, 2}), options).find("document d1 has no tokens"), std::string::npos);
  EXPECT_NE(message(documents({3, 33}), options).find("document d1: found 33 tokens, expected at most 32"),
            std::string::npos);
  options.skip_empty = true;
  EXPECT_EQ(message(documents({3, 0, 2}), options), "");
  EXPECT_NE(message(documents({0}), options).find("no token"), std::string::npos);
}

TEST(Memory, AStageThatDoesNotWriteHoldsRowsUnderWay) {
  const Inputs inputs = documents({4, 6, 1, 20, 3});
  ExtractionOptions options = every_token();
  options.batch_tokens = 10;
  options.sites = {{Hook::resid_post, 0}, {Hook::resid_post, 1}, {Hook::logits, 0}};
  const ModelSpec spec = small_spec();
  const ExtractionPlan plan = plan_extraction(spec, inputs, options);
  const StoreSchema schema = make_schema(spec, inputs, options, plan, {});
  const std::int64_t workspace = Transformer::workspace_bytes(spec, 20, DeviceKind::cpu);
  const auto beside = [&](int stage, int stages) {
    return run_memory(spec, Stage::of(spec, stage, stages), plan, schema) - workspace;
  };
  const auto one_site = [&](int stage, int stages) {  // of the largest batch, at each of the stage's layers
    return Stage::of(spec, stage, stages).layers.size() * 20 * 8 * 4;
  };
  EXPECT_EQ(beside(0, 2), 4 * one_site(0, 2));  // its own, two on the way to the next stage, the writer's
  EXPECT_EQ(beside(0, 3), 6 * one_site(0, 3));
  EXPECT_EQ(beside(1, 3), 4 * one_site(1, 3));
  // The logits, and the same again packed.
  EXPECT_EQ(beside(1, 2), store_memory(schema) + 2 * Transformer::logits_bytes(spec));
  EXPECT_EQ(beside(0, 1), beside(1, 2));
}

TEST(Schema, HoldsWhatDecidesTheBytesAndNotTheShards) {
  const Inputs inputs = documents({4, 6});
  ExtractionOptions options = every_token();
  options.sites = {{Hook::pattern, 1}, {Hook::logits, 0}};
  const ExtractionPlan plan = plan_extraction(small_spec(), inputs, options);
  const StoreSchema a = make_schema(small_spec(), inputs, options, plan, {});
  EXPECT_EQ(a.sites[0].row_shape, (std::vector<std::int64_t>{2, 6}));
  EXPECT_EQ(a.sites[1].row_shape, (std::vector<std::int64_t>{50}));
  options.shard_rows = 3;
  EXPECT_EQ(make_schema(small_spec(), inputs, options, plan, {}).identity, a.identity);
  options.batch_tokens = 5;
  EXPECT_NE(make_schema(small_spec(), inputs, options, plan, {}).identity, a.identity);
}

}  // namespace
}  // namespace sonde
