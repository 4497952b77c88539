// What each edit does at its point, head by head and key by key, from numbers and from files.
#include "models/edit_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/activation_store.h"
#include "models/edit_rows.h"
#include "models/extraction.h"
#include "runtime/error.h"
#include "tests/models/activations.h"
#include "tests/models/model_folder.h"
#include "tests/models/random_specs.h"

namespace sonde::test {
namespace {

using ::testing::HasSubstr;

const std::vector<Ids> kDocuments = {{1, 2, 3, 4, 5}, {7}, {10, 11, 12, 13, 14, 15, 16, 17, 18}};

class EditFileTest : public ::testing::TestWithParam<NamedSpec> {
 protected:
  EditFileTest() : model(Model::random(GetParam().spec, {}, 7, *backend)) {}

  std::vector<Edit> read(const std::string& json) {
    write_text(folder.path() / "edits.json", json);
    return read_edits(folder.path() / "edits.json", model.spec).edits;
  }
  std::string refusal(const std::string& json) {
    try {
      read(json);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  // One capture of every document with the edits of a file.
  std::vector<Captured> run(const std::string& json, Site site) {
    std::vector<Edit> edits = read(json);
    const auto all =
        run_packed(model, *backend, kDocuments, {{site}, "all", [&](Hooks& hooks, const HookSizes& sizes) {
                                                   for (Edit& edit : edits)
                                                     hooks.edit(std::move(edit), sizes);
                                                 }});
    std::vector<Captured> found;
    for (const Activations& document : all) found.push_back(document.at(name(site)));
    return found;
  }
  std::string tensor_file(const std::string& file, std::vector<std::int64_t> shape, std::uint32_t seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::int64_t count = 1;
    for (std::int64_t n : shape) count *= n;
    values.clear();
    for (std::int64_t i = 0; i < count; ++i) values.push_back(normal(generator));
    write_safetensors(folder.path() / file, {{"x", stored_f32(std::move(shape), values)}});
    return "{\"file\": \"" + file + "\", \"tensor\": \"x\"}";
  }

  TempFolder folder;
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Model model;
  std::vector<float> values;  // of the last tensor_file
};

float at(const Captured& c, std::int64_t token, std::int64_t i) {
  return c.values[static_cast<std::size_t>(token * static_cast<std::int64_t>(c.values.size()) / c.rows + i)];
}

// f(before, token, column) wherever `chosen`, the value before elsewhere.
template <class Chosen, class Change>
void expect_changed(const std::vector<Captured>& before, const std::vector<Captured>& after,
                    const Chosen& chosen, const Change& change) {
  for (std::size_t d = 0; d < before.size(); ++d) {
    const auto width = static_cast<std::int64_t>(before[d].values.size()) / before[d].rows;
    for (std::int64_t t = 0; t < before[d].rows; ++t)
      for (std::int64_t i = 0; i < width; ++i) {
        const float was = at(before[d], t, i);
        ASSERT_EQ(at(after[d], t, i), chosen(before[d].rows, t, i) ? change(was, t, i) : was)
            << "document " << d << " token " << t << " column " << i;
      }
  }
}

const auto everything = [](std::int64_t, std::int64_t, std::int64_t) { return true; };

TEST_P(EditFileTest, HeadsOfZ) {
  const Site z{Hook::z, 1};
  const auto before = run("[]", z);
  const std::int64_t E = model.spec.d_head;
  const auto head_1_and_3 = [&](std::int64_t n, std::int64_t t, std::int64_t i) {
    return (i / E == 1 || i / E == 3) && (t == 0 || t == n - 1);
  };
  const std::string where = R"([{"site": "blocks.1.attn.hook_z", "tokens": "0,-1", "heads": [3, 1], "op": )";
  expect_changed(before, run(where + "\"zero\"}]", z), head_1_and_3, [](float, auto, auto) { return 0.0f; });
  expect_changed(before, run(where + "\"scale\", \"value\": -2}]", z), head_1_and_3,
                 [](float x, auto, auto) { return -2 * x; });
  expect_changed(before, run(where + "\"replace\", \"value\": 0.5}]", z), head_1_and_3,
                 [](float, auto, auto) { return 0.5f; });
  expect_changed(before, run(where + "\"clamp\", \"value\": 0.1}]", z), head_1_and_3,
                 [](float x, auto, auto) { return std::clamp(x, -0.1f, 0.1f); });
  expect_changed(before, run(where + "\"clamp\", \"min\": 0}]", z), head_1_and_3,
                 [](float x, auto, auto) { return std::max(x, 0.0f); });
  // A value has the width of a head, of the named heads in their order, or of the whole row.
  auto value = tensor_file("head.safetensors", {E}, 1);
  expect_changed(before, run(where + "\"replace\", \"value\": " + value + "}]", z), head_1_and_3,
                 [&](float, auto, std::int64_t i) { return values[static_cast<std::size_t>(i % E)]; });
  value = tensor_file("heads.safetensors", {2, E}, 2);
  value = tensor_file("heads.safetensors", {1, 2 * E}, 2);
  expect_changed(before, run(where + "\"replace\", \"value\": " + value + "}]", z), head_1_and_3,
                 [&](float, auto, std::int64_t i) {
                   return values[static_cast<std::size_t>(i % E + (i / E == 1 ? E : 0))];
                 });
  value = tensor_file("row.safetensors", {model.spec.n_heads * E}, 3);
  expect_changed(before, run(where + "\"replace\", \"value\": " + value + "}]", z), head_1_and_3,
                 [&](float, auto, std::int64_t i) { return values[static_cast<std::size_t>(i)]; });
}

TEST_P(EditFileTest, MaskedKeysGetNoWeight) {
  const Site site{Hook::pattern, 1};
  const auto before = run("[]", site);
  // Heads 0 and 2 of tokens from the second on do not see the first key.
  const auto after = run(R"([{"site": "blocks.1.attn.hook_attn_scores", "op": "mask_scores", "keys": "first",
                              "heads": [0, 2], "tokens": "all"}])",
                         site);
  for (std::size_t d = 0; d < before.size(); ++d) {
    const std::int64_t S = before[d].rows;
    for (std::int64_t t = 0; t < S; ++t)
      for (std::int64_t h = 0; h < model.spec.n_heads; ++h) {
        const bool masked = h == 0 || h == 2;
        double left = 0;
        for (std::int64_t s = 1; s < S; ++s) left += at(before[d], t, h * S + s);
        for (std::int64_t s = 0; s < S; ++s) {
          const double was = at(before[d], t, h * S + s), found = at(after[d], t, h * S + s);
          const double expected = !masked ? was : s == 0 || left == 0 ? 0 : was / left;
          ASSERT_NEAR(found, expected, 1e-6) << "token " << t << " head " << h << " key " << s;
        }
      }
  }
}

TEST_P(EditFileTest, PatternsOfKeysAndHeads) {
  const Site site{Hook::pattern, 1};
  const auto before = run("[]", site);
  const auto chosen = [&](std::int64_t n, std::int64_t t, std::int64_t i) {
    return i / n == 3 && i % n == n - 1 && t == n - 1;
  };
  const std::string where = R"([{"site": "blocks.1.attn.hook_pattern", "tokens": "last", "heads": [3],
                                 "keys": "last", "op": )";
  expect_changed(before, run(where + "\"zero\"}]", site), chosen, [](float, auto, auto) { return 0.0f; });
  expect_changed(before, run(where + "\"replace\", \"value\": 2}]", site), chosen,
                 [](float, auto, auto) { return 2.0f; });
  expect_changed(before, run(R"([{"site": "blocks.1.attn.hook_pattern", "op": "scale", "value": 3}])", site),
                 everything, [](float x, auto, auto) { return 3 * x; });
}

TEST_P(EditFileTest, RowsAndMeansOfFiles) {
  const Site site{Hook::resid_pre, 1};
  const auto before = run("[]", site);
  const std::int64_t D = model.spec.d_model;
  const auto last = [](std::int64_t n, std::int64_t t, std::int64_t) { return t == n - 1; };
  auto value = tensor_file("row.safetensors", {1, D}, 1);
  const std::string where = R"([{"site": "blocks.1.hook_resid_pre", "tokens": "last", "op": )";
  expect_changed(
      before, run(where + "\"add\", \"coefficient\": 4, \"value\": " + value + "}]", site), last,
      [&](float x, auto, std::int64_t i) { return std::fma(4.0f, values[static_cast<std::size_t>(i)], x); });
  value = tensor_file("many.safetensors", {6, D}, 2);
  expect_changed(before, run(where + "\"mean_ablate\", \"value\": " + value + "}]", site), last,
                 [&](float, auto, std::int64_t i) {
                   double sum = 0;
                   for (std::int64_t r = 0; r < 6; ++r) sum += values[static_cast<std::size_t>(r * D + i)];
                   return static_cast<float>(sum / 6);
                 });
  // A row per chosen token; documents with another number of them are refused.
  value = tensor_file("rows.safetensors", {1, D}, 3);
  const std::string two = tensor_file("rows.safetensors", {2, D}, 3);
  EXPECT_THROW(run(R"([{"site": "blocks.1.hook_resid_pre", "op": "replace", "value": )" + two + "}]", site),
               Error);
}

// Patching with what another run recorded: its own values change nothing, another site's take their place.
TEST_P(EditFileTest, RowsOfAStore) {
  Inputs inputs;
  inputs.documents.starts = {0};
  for (const Ids& ids : kDocuments) {
    inputs.documents.ids.push_back(std::to_string(inputs.documents.ids.size()));
    inputs.documents.tokens.insert(inputs.documents.tokens.end(), ids.begin(), ids.end());
    inputs.documents.starts.push_back(static_cast<std::int64_t>(inputs.documents.tokens.size()));
  }
  // Scores and patterns in a store of their own: a run that looks at them attends in steps.
  for (const bool keys : {false, true}) {
    const std::string store = keys ? "patterns" : "store";
    ExtractionOptions options;
    options.tokens = TokenSelector::parse("all");
    for (const Site site : model.spec.sites())
      if (keys ? site.hook == Hook::pattern : info(site.hook).shape != RowShape::HS)
        options.sites.push_back(site);
    const ExtractionPlan plan = plan_extraction(model.spec, inputs, options);
    const auto writer = StoreWriter::open(
        folder.path() / store, make_schema(model.spec, inputs, options, plan, {}), store_documents(inputs));
    run_extraction(model, *backend, inputs, options, plan, {}, *writer, [](const Progress&) {});
    const auto recorded = run_packed(model, *backend, kDocuments, {options.sites, "all", {}});
    for (const Site site : options.sites) {
      const auto after = run(
          R"([{"site": ")" + name(site) + R"(", "op": "replace", "value": {"store": ")" + store + R"("}}])",
          site);
      for (std::size_t d = 0; d < after.size(); ++d)
        expect_same_bits(recorded[d].at(name(site)), after[d], name(site));
    }
  }
  const auto other = run("[]", {Hook::resid_post, 1});
  const auto patched = run(R"([{"site": "blocks.0.hook_resid_post", "tokens": "last", "op": "replace",
                                "value": {"store": "store", "site": "blocks.1.hook_resid_post"}}])",
                           {Hook::resid_post, 0});
  for (std::size_t d = 0; d < other.size(); ++d)
    for (std::int64_t i = 0; i < model.spec.d_model; ++i)
      EXPECT_EQ(at(patched[d], patched[d].rows - 1, i), at(other[d], other[d].rows - 1, i));
  EXPECT_THAT(refusal(R"([{"site": "blocks.0.hook_resid_post", "op": "replace",
                           "value": {"store": "store", "site": "blocks.0.attn.hook_attn_scores"}}])"),
              HasSubstr("has no site blocks.0.attn.hook_attn_scores"));
}

TEST_P(EditFileTest, MistakesAreNamed) {
  const std::string begin = R"([{"site": "blocks.0.hook_resid_post", )";
  EXPECT_THAT(refusal(begin + R"("op": "multiply"}])"), HasSubstr("'multiply'"));
  EXPECT_THAT(refusal(begin + R"("op": "zero", "coefficient": 2}])"),
              AllOf(HasSubstr("edit 0: key coefficient"), HasSubstr("zero")));
  EXPECT_THAT(refusal(begin + R"("op": "zero", "token": "all"}])"), HasSubstr("unknown key token"));
  EXPECT_THAT(refusal(begin + R"("op": "zero", "tokens": "mask:x"}])"), HasSubstr("mask:x"));
  EXPECT_THAT(refusal(begin + R"("op": "scale"}])"), HasSubstr("value is missing"));
  EXPECT_THAT(refusal(begin + R"("op": "scale", "value": "2"}])"), HasSubstr("expected a number"));
  EXPECT_THAT(refusal(begin + R"("op": "clamp", "min": 2, "max": 1}])"), HasSubstr("lower one first"));
  EXPECT_THAT(refusal(begin + R"("op": "mean_ablate", "value": 3}])"), HasSubstr("\"file\""));
  EXPECT_THAT(refusal(begin + R"("op": "replace", "value": {"file": "none.safetensors", "tensor": "x"}}])"),
              HasSubstr("none.safetensors"));
  EXPECT_THAT(refusal("{}"), HasSubstr("expected an array"));
  const std::string z = R"([{"site": "blocks.0.attn.hook_z", "op": "add", "value": )";
  const auto of_shape = [&](std::vector<std::int64_t> shape) {
    return tensor_file("v.safetensors", shape, 1);
  };
  const std::int64_t D = model.spec.d_model, E = model.spec.d_head, H = model.spec.n_heads;
  const std::string row = begin + R"("op": "add", "value": )";
  EXPECT_EQ(refusal(row + of_shape({D}) + "}]"), "");
  EXPECT_EQ(refusal(row + of_shape({7, D}) + "}]"), "");
  EXPECT_THAT(refusal(row + of_shape({2, D / 2}) + "}]"), AllOf(HasSubstr("edit 0"), HasSubstr("key value")));
  EXPECT_THAT(refusal(row + of_shape({1, 1, D}) + "}]"), HasSubstr("key value"));
  for (const auto& shape : {std::vector<std::int64_t>{H, E}, std::vector<std::int64_t>{H * E},
                            std::vector<std::int64_t>{3, H, E}})
    EXPECT_EQ(refusal(z + of_shape(shape) + "}]"), "");
  EXPECT_THAT(refusal(z + of_shape({E}) + "}]"), HasSubstr("key value"));
  EXPECT_EQ(refusal(z + of_shape({E}) + R"(, "heads": [1]}])"), "");
  EXPECT_EQ(refusal(begin + R"("op": "zero", "value": null, "tokens": [0]}])"), "");
}

INSTANTIATE_TEST_SUITE_P(Families, EditFileTest,
                         ::testing::Values(NamedSpec{"llama", llama_like()},
                                           NamedSpec{"gemma3", gemma3_like()},
                                           NamedSpec{"cohere", cohere_like()}),
                         [](const auto& p) { return p.param.name; });

// Rows computed beforehand, by document and position.
class FixedRows : public EditRows {
 public:
  explicit FixedRows(std::vector<Captured> rows) : rows_(std::move(rows)) {}
  void read(Tensor out, std::int64_t document, std::span<const std::int32_t> chosen,
            std::int64_t index) const override {
    const Captured& c = rows_[static_cast<std::size_t>(document)];
    const auto width = static_cast<std::int64_t>(c.values.size()) / c.rows;
    std::copy_n(c.values.begin() + chosen[static_cast<std::size_t>(index)] * width, width, out.f32());
  }
  void check(std::int64_t, std::span<const std::int32_t>) const override {}

 private:
  std::vector<Captured> rows_;
};

class EditFamilies : public ::testing::TestWithParam<NamedSpec> {};

// At every point of every family, whatever is fused over it.
TEST_P(EditFamilies, AnOpIsTheReplacementByItsResult) {
  const auto backend = make_cpu_backend();
  const Model model = Model::random(GetParam().spec, {}, 7, *backend);
  std::vector<Site> outside = {{Hook::logits}};
  for (int l = 0; l < static_cast<int>(model.spec.n_layers); ++l) outside.push_back({Hook::resid_post, l});
  const auto plain = run_packed(model, *backend, kDocuments);
  const auto run = [&](Edit edit, const std::vector<Site>& sites) {
    return run_packed(model, *backend, kDocuments, {sites, "all", [&](Hooks& hooks, const HookSizes& s) {
                                                      hooks.edit(std::move(edit), s);
                                                    }});
  };
  for (const Site site : model.spec.sites()) {
    if (site.hook == Hook::expert_indices) continue;  // half an expert is refused
    Edit scale{.site = site, .op = EditOp::scale, .tokens = TokenSelector::parse("0,-1")};
    scale.coefficient = 0.75f;
    std::vector<Captured> rows;
    for (const Activations& document : plain) {
      Captured& c = rows.emplace_back(document.at(name(site)));
      for (float& x : c.values) x *= 0.75f;
    }
    Edit replace{.site = site, .op = EditOp::replace, .tokens = TokenSelector::parse("0,-1")};
    replace.rows = std::make_shared<FixedRows>(std::move(rows));
    const auto scaled = run(std::move(scale), outside), replaced = run(std::move(replace), outside);
    for (std::size_t d = 0; d < kDocuments.size(); ++d) {
      for (const auto& [other, captured] : scaled[d])
        if (relative_error(captured.values, replaced[d].at(other).values) > 2e-6)
          ADD_FAILURE() << "edit at " << name(site) << " seen at " << other;
      if (kDocuments[d].size() > 1) {
        EXPECT_NE(scaled[d].at("logits").values, plain[d].at("logits").values) << name(site);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, EditFamilies, ::testing::ValuesIn(random_specs()),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace sonde::test
