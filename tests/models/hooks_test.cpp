// What hooks promise: looking changes nothing, edits happen where, when and to whom they say, and nothing
// runs that nobody asked for.
#include "models/hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/models/activations.h"
#include "tests/models/counting_backend.h"
#include "tests/models/random_specs.h"

namespace sonde::test {
namespace {

using ::testing::HasSubstr;

OwnedTensor rows_of(const std::vector<std::vector<float>>& rows) {
  OwnedTensor t = make_tensor(
      DType::f32, {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows.front().size())});
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy(rows[i].begin(), rows[i].end(), t.view.row(static_cast<std::int64_t>(i)));
  return t;
}

Edit edit_at(Site site, EditOp op, const std::string& tokens = "all", OwnedTensor value = {},
             float coefficient = 1) {
  Edit edit{.site = site, .op = op, .tokens = TokenSelector::parse(tokens)};
  edit.value = std::move(value);
  edit.coefficient = coefficient;
  return edit;
}

std::vector<float> ramp(std::int64_t n, float step = 0.25f) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(step * static_cast<float>(i % 7 - 3));
  return values;
}

// The promises that every family keeps are tested for each of them; what is about one of them, for a llama.
class HooksTest : public ::testing::TestWithParam<NamedSpec> {
 protected:
  explicit HooksTest(const ModelSpec& spec = GetParam().spec) : model(Model::random(spec, {}, 7, backend)) {
    for (const int length : {5, 1, 12})
      for (int t = 0; t < length; ++t) {
        if (t == 0) documents.emplace_back();
        documents.back().push_back((17 * length + 5 * t) % 53);
      }
  }
  HookSizes sizes() const { return model.spec.hook_sizes(); }
  std::vector<Activations> run(const RunOptions& options = {}) {
    return run_packed(model, backend, documents, options);
  }
  // Captures `sites` with one edit.
  std::vector<Activations> edited(Edit edit, std::vector<Site> sites, const std::string& tokens = "all") {
    return run({std::move(sites), tokens,
                [&](Hooks& hooks, const HookSizes& s) { hooks.edit(std::move(edit), s); }});
  }
  std::vector<Site> free_sites() const {
    std::vector<Site> sites;
    for (const Site site : model.spec.sites())
      if (info(site.hook).cost == Cost::free) sites.push_back(site);
    return sites;
  }
  std::span<const float> row(const Captured& c, std::int64_t i) const {
    const auto width = static_cast<std::int64_t>(c.values.size()) / c.rows;
    return std::span(c.values).subspan(static_cast<std::size_t>(i * width), static_cast<std::size_t>(width));
  }

  CountingBackend backend;
  Model model;
  std::vector<Ids> documents;
};

class LlamaHooksTest : public HooksTest {
 protected:
  LlamaHooksTest() : HooksTest(llama_like()) {}
};

INSTANTIATE_TEST_SUITE_P(Families, HooksTest, ::testing::ValuesIn(random_specs()),
                         [](const auto& p) { return p.param.name; });
INSTANTIATE_TEST_SUITE_P(Of, LlamaHooksTest, ::testing::Values(NamedSpec{"llama", llama_like()}),
                         [](const auto& p) { return p.param.name; });

TEST_P(HooksTest, LookingChangesNothing) {
  const auto together = run({.sites = free_sites()});
  for (const Site site : free_sites()) {
    const auto lone = run({.sites = {site}});
    for (std::size_t d = 0; d < documents.size(); ++d)
      expect_same_bits(lone[d].at(name(site)), together[d].at(name(site)), "alone: " + name(site));
  }
  // Norms in steps are bitwise the fused ones.
  std::vector<Site> in_steps;
  for (const Site site : model.spec.sites())
    if (info(site.hook).cost != Cost::materialises) in_steps.push_back(site);
  const auto steps = run({.sites = in_steps});
  for (std::size_t d = 0; d < documents.size(); ++d)
    for (const auto& [site, captured] : together[d])
      expect_same_bits(captured, steps[d].at(site), "in steps: " + site);
}

TEST_P(HooksTest, EveryPointOncePerLayerWithItsDeclaredShape) {
  const auto found = run();
  for (std::size_t d = 0; d < documents.size(); ++d) {
    EXPECT_EQ(found[d].size(), model.spec.sites().size());
    for (const Site site : model.spec.sites()) {
      const Captured& captured = found[d].at(name(site));
      EXPECT_EQ(captured.rows, static_cast<std::int64_t>(documents[d].size())) << name(site);
      EXPECT_EQ(captured.row_shape, row_shape(site.hook, model.spec.hook_sizes(captured.rows))) << name(site);
    }
  }
}

TEST_P(HooksTest, ReplaceWithItselfChangesNothing) {
  documents = {documents.back()};
  const auto plain = run({.sites = free_sites()});
  for (const Site site : model.spec.sites()) {
    if (info(site.hook).shape == RowShape::HS) continue;  // below
    const auto here = run({.sites = {site}});
    const Captured& own = here[0].at(name(site));
    const auto replaced = run({free_sites(), "all", [&](Hooks& hooks, const HookSizes& s) {
                                 for (std::int64_t t = 0; t < own.rows; ++t) {
                                   const auto values = row(own, t);
                                   hooks.edit(edit_at(site, EditOp::replace, std::to_string(t),
                                                      rows_of({{values.begin(), values.end()}})),
                                              s);
                                 }
                               }});
    expect_same_bits(plain, replaced, name(site));
  }
}

TEST_P(HooksTest, ZeroAttentionLeavesTheResidual) {
  if (!model.spec.has({Hook::resid_mid, 1})) GTEST_SKIP() << "a parallel block has no resid_mid";
  const auto found = edited(edit_at({Hook::attn_out, 1}, EditOp::zero), model.spec.sites());
  for (const Activations& document : found) {
    expect_same_bits(document.at("blocks.1.hook_resid_mid"), document.at("blocks.1.hook_resid_pre"),
                     "mid and pre");
    EXPECT_THAT(document.at("blocks.1.hook_attn_out").values, ::testing::Each(0.0f));
  }
}

TEST_P(HooksTest, EditsComeFirstThenCaptureInTheOrderOfRegistration) {
  const Site site{Hook::resid_pre, 1};
  const std::vector<float> value = ramp(28);
  const auto plain = run({.sites = {site}});
  const auto two = [&](bool scale_first) {
    return run({{site}, "all", [&](Hooks& hooks, const HookSizes& s) {
                  if (scale_first) hooks.edit(edit_at(site, EditOp::scale, "all", {}, 2), s);
                  hooks.edit(edit_at(site, EditOp::add, "all", rows_of({value}), 4), s);
                  if (!scale_first) hooks.edit(edit_at(site, EditOp::scale, "all", {}, 2), s);
                }});
  };
  const auto scale_add = two(true), add_scale = two(false);
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const Captured& x = plain[d].at(name(site));
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      const float add = 4 * value[i % 28];
      EXPECT_EQ(scale_add[d].at(name(site)).values[i], 2 * x.values[i] + add);
      EXPECT_EQ(add_scale[d].at(name(site)).values[i], 2 * (x.values[i] + add));
    }
  }
}

TEST_P(LlamaHooksTest, EditsReachWhatComesAfterAndOnlyTheirTokens) {
  // The last token of each document: earlier tokens cannot see it, at any layer.
  const auto plain = run({.sites = free_sites()});
  const auto changed =
      edited(edit_at({Hook::mlp_out, 0}, EditOp::add, "last", rows_of({ramp(28, 1)})), free_sites());
  for (std::size_t d = 0; d < documents.size(); ++d)
    for (const auto& [site, captured] : changed[d]) {
      const Captured& before = plain[d].at(site);
      const std::int64_t last = captured.rows - 1;
      for (std::int64_t t = 0; t < last; ++t)
        ASSERT_TRUE(std::ranges::equal(row(captured, t), row(before, t))) << site << " token " << t;
      const bool after = site == "blocks.0.hook_mlp_out" || site == "blocks.0.hook_resid_post" ||
                         site.starts_with("blocks.1") || site.starts_with("blocks.2") ||
                         site.starts_with("ln_final") || site == "logits";
      EXPECT_EQ(!std::ranges::equal(row(captured, last), row(before, last)), after) << site;
    }
}

TEST_P(HooksTest, EverySiteCanBeEditedAndWhatFollowsSeesIt) {
  const auto plain = run({.sites = free_sites()});
  std::vector<Site> in_steps;
  for (const Site site : model.spec.sites())
    if (info(site.hook).cost != Cost::materialises) in_steps.push_back(site);
  for (const Site site : in_steps) {
    if (site.hook == Hook::expert_indices) continue;  // half an expert is refused, see below
    const auto changed = edited(edit_at(site, EditOp::scale, "all", {}, 0.5f), free_sites());
    EXPECT_NE(changed.back().at("logits").values, plain.back().at("logits").values) << name(site);
    // No fused op swallows the edit: with every step looked at, the numbers are the same.
    const auto looked_at = edited(edit_at(site, EditOp::scale, "all", {}, 0.5f), in_steps);
    for (std::size_t d = 0; d < documents.size(); ++d)
      for (const auto& [other, captured] : changed[d])
        expect_same_bits(captured, looked_at[d].at(other), "edit at " + name(site) + ", " + other);
  }
}

TEST_P(LlamaHooksTest, ProjectOutRemovesTheSubspace) {
  const Site site{Hook::resid_post, 0};
  std::vector<std::vector<float>> rows = {ramp(28), ramp(28, 0.5f), std::vector<float>(28, 0.1f)};
  rows[2][3] = 5;  // the second row repeats the first one's direction
  const auto once = edited(edit_at(site, EditOp::project_out, "all", rows_of(rows)), {site});
  const auto twice = run({{site}, "all", [&](Hooks& hooks, const HookSizes& s) {
                            hooks.edit(edit_at(site, EditOp::project_out, "all", rows_of(rows)), s);
                            hooks.edit(edit_at(site, EditOp::project_out, "all", rows_of(rows)), s);
                          }});
  const auto plain = run({.sites = {site}});
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const Captured& x = once[d].at(name(site));
    for (std::int64_t t = 0; t < x.rows; ++t)
      for (const auto& direction : rows) {
        double dot = 0, before = 0, size = 0, length = 0;
        for (std::size_t i = 0; i < 28; ++i) {
          dot += static_cast<double>(row(x, t)[i]) * direction[i];
          before += static_cast<double>(row(plain[d].at(name(site)), t)[i]) * direction[i];
          size += static_cast<double>(row(x, t)[i]) * row(x, t)[i];
          length += static_cast<double>(direction[i]) * direction[i];
        }
        EXPECT_LT(std::abs(dot), 1e-6 * std::sqrt(size * length));
        EXPECT_GT(std::abs(before), 1e-4 * std::sqrt(size * length));
      }
    EXPECT_LT(relative_error(twice[d].at(name(site)).values, x.values), 1e-6);
  }
}

TEST_P(LlamaHooksTest, NothingRunsThatNobodyNeeds) {
  const auto gemms = [&](std::vector<Site> sites, const std::string& tokens = "all") {
    backend.linear_rows.clear();
    run({std::move(sites), tokens, {}});
    return backend.linear_rows;
  };
  EXPECT_TRUE(gemms({{Hook::embed}}).empty());
  EXPECT_EQ(gemms({{Hook::resid_post, 0}}).size(), 4u);
  EXPECT_EQ(gemms({{Hook::resid_post, 1}}).size(), 8u);
  EXPECT_EQ(gemms({{Hook::ln_final_out}}).size(), 12u);  // no head
  EXPECT_EQ(gemms({{Hook::logits}}).size(), 13u);
  // The last block's tail and the head see the wanted tokens alone.
  EXPECT_EQ(gemms({{Hook::logits}}, "last"),
            (std::vector<std::int64_t>{18, 18, 18, 18, 18, 18, 18, 18, 18, 3, 3, 3, 3}));
}

TEST_P(HooksTest, WantedRowsAreTheRowsOfTheWholeRun) {
  const auto whole = run({.sites = free_sites()});
  for (const std::string tokens : {"last", "first", "0,-1", "every:3"})
    for (const Site site : free_sites()) {
      const auto some = run({{site}, tokens, {}});
      for (std::size_t d = 0; d < documents.size(); ++d) {
        const auto positions =
            TokenSelector::parse(tokens).select(static_cast<std::int64_t>(documents[d].size()), "d");
        const Captured& captured = some[d].at(name(site));
        ASSERT_EQ(captured.rows, static_cast<std::int64_t>(positions.size()));
        for (std::int64_t i = 0; i < captured.rows; ++i)
          ASSERT_TRUE(std::ranges::equal(
              row(captured, i), row(whole[d].at(name(site)), positions[static_cast<std::size_t>(i)])))
              << name(site) << " " << tokens;
      }
    }
}

TEST_P(LlamaHooksTest, EditsActOnTheWantedRowsOfTheLastBlock) {
  for (const Hook hook : {Hook::z, Hook::attn_out, Hook::mlp_post, Hook::resid_post, Hook::ln_final_out}) {
    const Site site{hook, per_layer(hook) ? 2 : 0};
    const auto whole = edited(edit_at(site, EditOp::scale, "0,-1", {}, 3), {{Hook::logits}});
    const auto last = edited(edit_at(site, EditOp::scale, "0,-1", {}, 3), {{Hook::logits}}, "last");
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const Captured& all = whole[d].at("logits");
      EXPECT_TRUE(std::ranges::equal(row(last[d].at("logits"), 0), row(all, all.rows - 1))) << name(site);
    }
  }
}

TEST_P(HooksTest, ABatchWithoutWantedTokensRuns) {
  const Ids ids = {1, 2, 3}, positions = {0, 1, 2}, starts = {0, 3};
  CollectingSink sink({}, {3});
  Hooks hooks(backend, 3);
  hooks.capture(model.spec.sites(), sink);
  Transformer(model, backend, 3).forward({ids, positions, Documents{starts}, {}}, hooks);
  EXPECT_TRUE(sink.puts.empty());
}

TEST_P(LlamaHooksTest, WrongEditsAndIdsAreErrors) {
  const auto message = [&](Edit edit) -> std::string {
    Hooks hooks(backend, 3);
    try {
      hooks.edit(std::move(edit), sizes());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message(edit_at({Hook::resid_post, 1}, EditOp::add, "all", rows_of({ramp(27)}))),
              AllOf(HasSubstr("blocks.1.hook_resid_post"), HasSubstr("[1, 27]"), HasSubstr("28")));
  EXPECT_THAT(message(edit_at({Hook::resid_post, 1}, EditOp::replace)),
              HasSubstr("blocks.1.hook_resid_post"));
  EXPECT_THAT(message(edit_at({Hook::resid_post, 1}, EditOp::replace, "all", rows_of({ramp(28), ramp(28)}))),
              HasSubstr("one row"));
  EXPECT_THAT(
      message(edit_at({Hook::z, 0}, EditOp::project_out, "all", rows_of({std::vector<float>(40, 0.0f)}))),
      HasSubstr("all zero"));
  EXPECT_THAT(message(edit_at({Hook::z, 0}, EditOp::mask_scores)), HasSubstr("attn_scores alone"));
  Edit edit = edit_at({Hook::resid_post, 0}, EditOp::zero);
  edit.heads = {0};
  EXPECT_THAT(message(std::move(edit)), HasSubstr("without heads"));
  edit = edit_at({Hook::v, 0}, EditOp::zero);
  edit.heads = {1, 2};
  EXPECT_THAT(message(std::move(edit)), AllOf(HasSubstr("found 2"), HasSubstr("0 to 1")));
  edit = edit_at({Hook::z, 0}, EditOp::zero);
  edit.keys = TokenSelector::parse("0");
  EXPECT_THAT(message(std::move(edit)), HasSubstr("keys"));
  edit = edit_at({Hook::z, 0}, EditOp::clamp);
  edit.least = 1;
  EXPECT_THAT(message(std::move(edit)), HasSubstr("lower one first"));
  EXPECT_THROW(Hooks(backend, 3).edit(edit_at({Hook::z, 3}, EditOp::zero), sizes()), std::exception);

  documents = {{1, 53, 2}};
  EXPECT_THROW(run(), Error);  // an id past the vocabulary
  documents = {{1, -1}};
  EXPECT_THROW(run(), Error);
}

}  // namespace
}  // namespace sonde::test
