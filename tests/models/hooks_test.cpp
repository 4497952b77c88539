// The properties that keep hooks honest.
#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "tests/models/activations.h"
#include "tests/models/model_folder.h"

namespace sonde {
namespace {

using test::Activations;
using test::Ids;

class HookProperties : public testing::Test {
 protected:
  HookProperties() {
    test::TinyLlama tiny;
    tiny.layers = 3;
    const test::TempFolder folder;
    test::write_model(folder.path(), test::config_of(tiny), test::stored_weights(tiny, 5));
    model_ = std::make_unique<Model>(Model::load(folder.path(), {}, *backend_));
  }
  std::vector<Activations> run(std::vector<Site> sites,
                               std::function<void(Hooks&, const HookSizes&)> edits = {},
                               const std::string& tokens = "all") {
    return test::run_packed(*model_, *backend_, documents_, {std::move(sites), tokens, std::move(edits)});
  }
  std::int64_t width(Site site) const {
    std::int64_t n = 1;
    for (const std::int64_t d : row_shape(site.hook, model_->spec.hook_sizes())) n *= d;
    return n;
  }
  Edit edit(Site site, EditOp op, const std::string& tokens, std::vector<float> row = {},
            float coefficient = 1) const {
    Edit e{.site = site,
           .op = op,
           .tokens = TokenSelector::parse(tokens),
           .value = {},
           .coefficient = coefficient};
    if (row.empty()) return e;
    e.value = make_tensor(DType::f32, {static_cast<std::int64_t>(row.size()) / width(site), width(site)});
    std::ranges::copy(row, e.value.view.f32());
    return e;
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  std::unique_ptr<Model> model_;
  std::vector<Ids> documents_ = {{3, 1, 4, 1, 5, 9}, {2}, {6, 5, 3, 5, 8, 9, 7, 9}};
};

const Site kLast = {Hook::resid_post, 2};

TEST_F(HookProperties, FreeCapturesChangeNoBit) {
  std::vector<Site> free;
  for (const Site site : model_->spec.sites())
    if (info(site.hook).cost != Cost::materialises) free.push_back(site);
  const auto alone = run({{Hook::logits}}), together = run(free);
  for (std::size_t d = 0; d < documents_.size(); ++d)
    test::expect_same_bits(alone[d].at("logits"), together[d].at("logits"), "logits");
}

TEST_F(HookProperties, EveryPointAppearsOncePerLayerWithItsShape) {
  const auto found = run({});
  for (std::size_t d = 0; d < documents_.size(); ++d) {
    EXPECT_EQ(found[d].size(), model_->spec.sites().size());
    const auto n = static_cast<std::int64_t>(documents_[d].size());
    for (const Site site : model_->spec.sites()) {
      EXPECT_EQ(found[d].at(name(site)).rows, n) << name(site);
      EXPECT_EQ(found[d].at(name(site)).row_shape, row_shape(site.hook, model_->spec.hook_sizes(n)))
          << name(site);
    }
  }
}

TEST_F(HookProperties, ReplacingWithItselfIsNeutral) {
  const auto plain = run({});
  for (const Site site : {Site{Hook::embed, 0}, Site{Hook::resid_pre, 1}, Site{Hook::ln1_scale, 1},
                          Site{Hook::q, 1}, Site{Hook::v, 0}, Site{Hook::z, 2}, Site{Hook::resid_mid, 1},
                          Site{Hook::mlp_post, 1}, Site{Hook::ln_final_normalized, 0}}) {
    // Documents that start with the same token: only the first token of the first one is put back.
    const std::vector<float>& all = plain[1].at(name(site)).values;
    const auto same = test::run_packed(*model_, *backend_, {documents_[1]},
                                       {{}, "all", [&](Hooks& hooks, const HookSizes& sizes) {
                                          hooks.edit(edit(site, EditOp::replace, "first", all), sizes);
                                        }});
    for (const auto& [where, captured] : same[0])
      if (!where.ends_with("pattern") && !where.ends_with("scores"))
        test::expect_same_bits(captured, plain[1].at(where), name(site) + " seen at " + where);
  }
}

TEST_F(HookProperties, ZeroAttentionLeavesTheResidual) {
  const Site out{Hook::attn_out, 1};
  const auto found =
      run({{Hook::resid_pre, 1}, {Hook::resid_mid, 1}, out},
          [&](Hooks& hooks, const HookSizes& sizes) { hooks.edit(edit(out, EditOp::zero, "all"), sizes); });
  for (const Activations& document : found) {
    test::expect_same_bits(document.at("blocks.1.hook_resid_mid"), document.at("blocks.1.hook_resid_pre"),
                           "resid_mid");
    EXPECT_THAT(document.at("blocks.1.hook_attn_out").values, testing::Each(0.0f));
  }
}

TEST_F(HookProperties, EditsRunInTheirOrderBeforeTheCapture) {
  const Site site{Hook::resid_mid, 0};
  std::vector<float> ones(static_cast<std::size_t>(width(site)), 1.0f);
  const auto found = run({site}, [&](Hooks& hooks, const HookSizes& sizes) {
    hooks.edit(edit(site, EditOp::replace, "all", ones), sizes);
    hooks.edit(edit(site, EditOp::scale, "all", {}, 3), sizes);
    hooks.edit(edit(site, EditOp::add, "first", ones, 0.5f), sizes);
  });
  for (const Activations& document : found) {
    const std::vector<float>& values = document.at(name(site)).values;
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], i < ones.size() ? 3.5f : 3.0f);
  }
}

TEST_F(HookProperties, EditsTouchTheirTokensAlone) {
  const Site site{Hook::resid_post, 0};
  const auto plain = run({site});
  const auto found = run({site}, [&](Hooks& hooks, const HookSizes& sizes) {
    hooks.edit(edit(site, EditOp::scale, "last", {}, -1), sizes);
  });
  for (std::size_t d = 0; d < documents_.size(); ++d) {
    const auto &before = plain[d].at(name(site)).values, &after = found[d].at(name(site)).values;
    const std::size_t last = before.size() - static_cast<std::size_t>(width(site));
    for (std::size_t i = 0; i < before.size(); ++i)
      EXPECT_EQ(after[i], i < last ? before[i] : -before[i]) << i;
  }
}

TEST_F(HookProperties, ProjectingOutRemovesTheSubspaceAndNothingElse) {
  const Site site{Hook::resid_post, 1};
  const auto d_model = static_cast<std::size_t>(width(site));
  std::vector<float> basis(2 * d_model);
  for (std::size_t i = 0; i < basis.size(); ++i) basis[i] = std::sin(static_cast<float>(i * i + 1));
  const auto plain = run({site}), found = run({site}, [&](Hooks&hooks, const HookSizes&sizes) {
                                    hooks.edit(edit(site, EditOp::project_out, "all", basis), sizes);
                                  });
  const std::vector<float>&x = plain[0].at(name(site)).values, &y = found[0].at(name(site)).values;
  for (std::size_t t = 0; t < documents_[0].size(); ++t)
    for (std::size_t b = 0; b < 2; ++b) {
      double left = 0, was = 0, size = 0;
      for (std::size_t i = 0; i < d_model; ++i) {
        left += y[t * d_model + i] * basis[b * d_model + i];
        was += x[t * d_model + i] * basis[b * d_model + i];
        size += std::abs(x[t * d_model + i] * basis[b * d_model + i]);
      }
      EXPECT_GT(std::abs(was), 1e-3 * size);
      EXPECT_LT(std::abs(left), 2e-6 * size);
    }
}

TEST_F(HookProperties, SelectedRowsOfTheLastLayerHaveTheirBits) {
  const auto all = run({kLast, {Hook::logits}, {Hook::ln_final_out}, {Hook::resid_pre, 1}});
  const auto last = run({kLast, {Hook::logits}, {Hook::ln_final_out}, {Hook::resid_pre, 1}}, {}, "last");
  for (std::size_t d = 0; d < documents_.size(); ++d)
    for (const auto& [site, captured] : last[d]) {
      ASSERT_EQ(captured.rows, 1);
      const std::vector<float>& every = all[d].at(site).values;
      EXPECT_TRUE(std::equal(captured.values.rbegin(), captured.values.rend(), every.rbegin())) << site;
    }
}

TEST_F(HookProperties, OnlyTheLayersThatAreNeededRun) {
  class NoSink : public CaptureSink {
    void put(Site, Tensor, std::int64_t) override {}
  } sink;
  const auto needed = [&](Site site) {
    Hooks hooks(*backend_, 3);
    hooks.capture(std::span(&site, 1), sink);
    return std::tuple(hooks.layers_needed(), hooks.needs_final_norm(), hooks.needs_logits());
  };
  EXPECT_EQ(needed({Hook::embed}), std::tuple(0, false, false));
  EXPECT_EQ(needed({Hook::resid_pre, 1}), std::tuple(2, false, false));
  EXPECT_EQ(needed({Hook::ln_final_scale}), std::tuple(3, true, false));
  EXPECT_EQ(needed({Hook::logits}), std::tuple(3, true, true));
}

TEST_F(HookProperties, ValuesOfTheWrongShapeAreRefused) {
  Hooks hooks(*backend_, 3);
  Edit wrong = edit({Hook::resid_post, 0}, EditOp::add, "all",
                    std::vector<float>(static_cast<std::size_t>(width({Hook::resid_post, 0}))));
  wrong.site = {Hook::mlp_post, 0};
  EXPECT_THROW(hooks.edit(std::move(wrong), model_->spec.hook_sizes()), Error);
  EXPECT_THROW(hooks.edit(edit({Hook::pattern, 0}, EditOp::scale, "all"), model_->spec.hook_sizes()), Error);
}

}  // namespace
}  // namespace sonde
