// Decoding from a cache is the full forward, bit for bit, at every step of every family; many prompts at once
// are each of them alone.
#include "models/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "kernels/devices.h"
#include "runtime/error.h"
#include "tests/models/activations.h"
#include "tests/models/random_specs.h"

namespace sonde::test {
namespace {

using Rows = std::map<std::pair<std::string, std::int64_t>, std::vector<float>>;  // of one prompt

struct Session {
  std::vector<Generated> generated;
  std::vector<Rows> rows;
};

std::vector<Ids> prompts_of(std::int64_t vocab) {
  std::vector<Ids> prompts;
  for (const int length : {3, 1, 7, 2, 11, 4})
    for (int t = 0; t < length; ++t) {
      if (t == 0) prompts.emplace_back();
      prompts.back().push_back(static_cast<std::int32_t>((13 * length + 7 * t) % vocab));
    }
  return prompts;
}

Session generate(const Model& model, Backend& backend, const std::vector<Ids>& prompts,
                 const GenerateOptions& options, const std::vector<Site>& sites = {},
                 const std::function<std::vector<Edit>()>& edits = {}) {
  Session run;
  run.generated.resize(prompts.size());
  run.rows.resize(prompts.size());
  Generator generator(model, backend, options, edits ? edits() : std::vector<Edit>());
  if (!sites.empty())
    generator.capture(sites, [&](std::size_t prompt, Site site, std::int64_t position, Tensor row) {
      run.rows[prompt][{name(site), position}] = {row.f32(), row.f32() + row.width()};
    });
  std::vector<int> ended(prompts.size());
  generator.run(
      prompts, [](std::size_t, std::span<const std::int32_t>) { return false; },
      [&](std::size_t prompt, const Generated& generated) {
        run.generated[prompt] = generated;
        ++ended[prompt];
      });
  for (const int times : ended) EXPECT_EQ(times, 1);
  return run;
}

std::vector<Edit> steering() {
  std::vector<Edit> edits;
  for (const char* tokens : {"all", "last", "every:3", "0"}) {
    edits.push_back(
        {.site = {Hook::resid_post, 0}, .op = EditOp::add, .tokens = TokenSelector::parse(tokens)});
    edits.back().number = 0.3f;
  }
  edits.push_back({.site = {Hook::z, 1}, .op = EditOp::zero, .tokens = TokenSelector::parse("all")});
  edits.back().heads = {2};
  return edits;
}

class GeneratorTest : public ::testing::TestWithParam<NamedSpec> {
 protected:
  GeneratorTest() : model(Model::random(GetParam().spec, {}, 11, *backend)) {
    options.sampling.greedy = true;
    options.max_new = 9;
  }
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Model model;
  GenerateOptions options;
};

TEST_P(GeneratorTest, EveryStepIsTheFullForward) {
  const std::vector<Ids> prompts = prompts_of(model.spec.vocab);
  const std::vector<Site> sites = model.spec.sites();
  const Session run = generate(model, *backend, prompts, options, sites);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_EQ(run.generated[i].ids.size(), 9u);
    Ids all = prompts[i];
    for (std::size_t step = 0; step < 9; ++step) {
      // The text so far, as one sequence: its last token's rows are those of this step.
      const Activations full = run_packed(model, *backend, {all})[0];
      const auto position = static_cast<std::int64_t>(all.size()) - 1;
      const Captured& logits = full.at("logits");
      const auto row = logits.values.end() - model.spec.vocab;
      EXPECT_EQ(std::max_element(row, logits.values.end()) - row, run.generated[i].ids[step]);
      for (const Site site : sites) {
        const Captured& captured = full.at(name(site));
        const auto width = static_cast<std::int64_t>(captured.values.size()) / captured.rows;
        const std::vector<float> expected(captured.values.end() - width, captured.values.end());
        // Documents of other lengths turn by other angles: their earlier rows were of those.
        const auto found = run.rows[i].find({name(site), position});
        ASSERT_NE(found, run.rows[i].end()) << name(site);
        if (GetParam().name == "dynamic" || GetParam().name == "longrope") {
          if (step + 1 < 9) continue;  // the last reading of each position is what was kept
        }
        ASSERT_EQ(found->second.size(), expected.size()) << name(site);
        EXPECT_EQ(std::memcmp(found->second.data(), expected.data(), expected.size() * 4), 0)
            << "prompt " << i << " step " << step << " " << name(site);
      }
      all.push_back(run.generated[i].ids[step]);
    }
  }
}

TEST_P(GeneratorTest, ManyAtOnceAreEachAlone) {
  const std::vector<Ids> prompts = prompts_of(model.spec.vocab);
  for (const bool sampled : {false, true}) {
    options.sampling.greedy = !sampled;
    options.sampling.temperature = 0.8;
    options.sampling.top_p = 0.9;
    options.sampling.seed = 5;
    const Session together = generate(model, *backend, prompts, options, {}, steering);
    for (const std::int64_t sequences : {1, 2, 4}) {
      options.sequences = sequences;
      options.batch_tokens = 5;
      const Session fewer = generate(model, *backend, prompts, options, {}, steering);
      for (std::size_t i = 0; i < prompts.size(); ++i)
        EXPECT_EQ(fewer.generated[i].ids, together.generated[i].ids) << sequences << " at once, prompt " << i;
    }
    options.sequences = 16;
    options.batch_tokens = 2048;
  }
}

// Edits whose tokens do not depend on the length act in decoding as in the whole text.
TEST_P(GeneratorTest, EditsWhileDecoding) {
  const auto edits = [] {
    std::vector<Edit> list = steering();
    list.erase(list.begin() + 1);  // `last` is another token in the whole text
    return list;
  };
  const std::vector<Ids> prompts = prompts_of(model.spec.vocab);
  const Session run = generate(model, *backend, prompts, options, {}, edits);
  const Session plain = generate(model, *backend, prompts, options);
  int different = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    different += run.generated[i].ids != plain.generated[i].ids;
    Ids all = prompts[i];
    for (const std::int32_t id : run.generated[i].ids) {
      const auto full = run_packed(model, *backend, {all},
                                   {{{Hook::logits}}, "last", [&](Hooks& hooks, const HookSizes& sizes) {
                                      for (Edit& edit : edits()) hooks.edit(std::move(edit), sizes);
                                    }});
      const auto& logits = full[0].at("logits").values;
      ASSERT_EQ(std::ranges::max_element(logits) - logits.begin(), id) << "prompt " << i;
      all.push_back(id);
    }
  }
  EXPECT_GT(different, 0);
}

// What a replay records is what the steps themselves had, whether it may read texts at once or not.
TEST_P(GeneratorTest, AReplayIsTheStepsThemselves) {
  const std::vector<Ids> prompts = prompts_of(model.spec.vocab);
  const std::vector<Site> sites = model.spec.sites();
  for (const bool steered : {false, true}) {
    const std::function<std::vector<Edit>()> edits =
        steered ? steering : std::function<std::vector<Edit>()>();
    const Session run = generate(model, *backend, prompts, options, sites, edits);
    std::vector<KnownText> texts;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      texts.push_back({prompts[i], prompts[i].size()});
      texts[i].ids.insert(texts[i].ids.end(), run.generated[i].ids.begin(), run.generated[i].ids.end());
    }
    std::vector<Rows> rows(prompts.size());
    options.sequences = 2;
    Generator again(model, *backend, options, edits ? edits() : std::vector<Edit>());
    again.capture(sites, [&](std::size_t prompt, Site site, std::int64_t position, Tensor row) {
      rows[prompt][{name(site), position}] = {row.f32(), row.f32() + row.width()};
    });
    again.replay(texts, 0);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      ASSERT_EQ(rows[i].size(), run.rows[i].size());
      for (const auto& [key, expected] : run.rows[i]) {
        std::vector<float> found = rows[i].at(key);
        if (found.size() != expected.size()) {  // a row of the whole text has keys that come later, too
          const auto heads = static_cast<std::size_t>(model.spec.n_heads);
          const std::size_t all = found.size() / heads, seen = expected.size() / heads;
          std::vector<float> cut;
          for (std::size_t h = 0; h < heads; ++h)
            cut.insert(cut.end(), found.begin() + static_cast<std::ptrdiff_t>(h * all),
                       found.begin() + static_cast<std::ptrdiff_t>(h * all + seen));
          found = cut;
        }
        ASSERT_EQ(found.size(), expected.size()) << key.first;
        EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * 4), 0)
            << "prompt " << i << " position " << key.second << " " << key.first
            << (steered ? ", steered" : "");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GeneratorTest, ::testing::ValuesIn(random_specs()),
                         [](const auto& p) { return p.param.name; });

TEST(Generator, EndsWhereItShould) {
  const auto backend = make_cpu_backend();
  const Model model = Model::random(llama_like(), {}, 11, *backend);
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = 6;
  const std::vector<Ids> prompts = {{1, 2, 3}};
  const Ids free = generate(model, *backend, prompts, options).generated[0].ids;
  ASSERT_EQ(free.size(), 6u);
  options.end_ids = {free[2]};
  const Generated ended = generate(model, *backend, prompts, options).generated[0];
  const auto first = std::ranges::find(free, free[2]);
  EXPECT_EQ(ended.ids, Ids(free.begin(), first + 1));  // the end token is there
  EXPECT_EQ(ended.stop, StopReason::end_token);
  options.end_ids = {};
  options.context = 5;
  const Generated cut = generate(model, *backend, prompts, options).generated[0];
  EXPECT_EQ(cut.ids, Ids(free.begin(), free.begin() + 2));
  EXPECT_EQ(cut.stop, StopReason::context);
  options.context = 3;
  EXPECT_THROW(generate(model, *backend, prompts, options), Error);
  EXPECT_THROW(generate(model, *backend, {{}}, options), Error);
  EXPECT_THROW(generate(model, *backend, {{53}}, options), Error);
}

// A cache that holds fewer sequences gives the same; one that holds none is refused before anything runs.
TEST(Generator, KeepsToItsMemory) {
  const auto backend = make_cpu_backend();
  const Model model = Model::random(llama_like(), {}, 11, *backend);
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = 6;
  const std::vector<Ids> prompts = {{1, 2, 3}, {4}, {5, 6, 7, 8}, {9, 10}};
  const Session free = generate(model, *backend, prompts, options);
  const std::int64_t one = Generator::cache_bytes(model.spec, 1, 4 + 6);
  options.cache_limit = 2 * one + 1;
  const Session two = generate(model, *backend, prompts, options);
  for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(two.generated[i].ids, free.generated[i].ids);
  options.cache_limit = one - 1;
  try {
    generate(model, *backend, prompts, options);
    ADD_FAILURE() << "no Error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("10 tokens"), std::string::npos) << error.what();
    EXPECT_NE(error.hint().find("--max-new"), std::string::npos);
  }
}

// Draws follow the probabilities that each filter leaves.
TEST(Sampling, FollowsTheProbabilities) {
  const auto cpu = make_cpu_backend();
  const auto next_token = [&](std::vector<float>& row, std::vector<std::int32_t> history,
                              const SamplingOptions& o, std::uint64_t stream, std::uint64_t step) {
    const Tensor tensor(row.data(), DType::f32, {1, static_cast<std::int64_t>(row.size())});
    const WantedToken wanted[] = {{0, history, stream, step}};
    return next_tokens(*cpu, tensor, wanted, o)[0];
  };
  const std::vector<float> logits = {0, 1, 2, 1, -30, 3};
  const auto frequencies = [&](const SamplingOptions& o, std::vector<std::int32_t> history = {0}) {
    std::vector<double> counts(logits.size());
    constexpr int kDraws = 40000;
    for (int i = 0; i < kDraws; ++i) {
      std::vector<float> copy = logits;
      counts[static_cast<std::size_t>(next_token(copy, history, o, static_cast<std::uint64_t>(i % 200),
                                                 static_cast<std::uint64_t>(i / 200)))] += 1.0 / kDraws;
    }
    return counts;
  };
  const auto expect = [](const std::vector<double>& found, std::vector<double> weights) {
    double sum = 0;
    for (double w : weights) sum += w;
    for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(found[i], weights[i] / sum, 0.012) << i;
  };
  const auto e = [](double x) { return std::exp(x); };
  expect(frequencies({}), {1, e(1), e(2), e(1), 0, e(3)});
  expect(frequencies({.temperature = 0.5}), {1, e(2), e(4), e(2), 0, e(6)});
  expect(frequencies({.top_k = 3}), {0, e(1), e(2), 0, 0, e(3)});  // of equals the lower id
  expect(frequencies({.top_p = 0.7}), {0, 0, e(2), 0, 0, e(3)});
  expect(frequencies({.min_p = 0.2}), {0, 0, e(2), 0, 0, e(3)});
  expect(frequencies({.repetition_penalty = 2}, {5, 2, 5, 4}), {1, e(1), e(1), e(1), 0, e(1.5)});
  std::vector<float> copy = logits;
  EXPECT_EQ(next_token(copy, {}, {.greedy = true}, 0, 0), 5);
  copy = {1, 4, 4};
  EXPECT_EQ(next_token(copy, {}, {.greedy = true}, 0, 0), 1);
  copy[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(next_token(copy, {}, {}, 0, 0), Error);
  copy.assign(3, -std::numeric_limits<float>::infinity());  // an edit may leave nothing
  EXPECT_THROW(next_token(copy, {}, {}, 0, 0), Error);
  EXPECT_NE(frequencies({.seed = 1}), frequencies({.seed = 2}));
  EXPECT_EQ(frequencies({.seed = 1}), frequencies({.seed = 1}));
  EXPECT_THROW(check_sampling({.temperature = 0}), UsageError);
  EXPECT_THROW(check_sampling({.top_p = 1.5}), UsageError);
}

// The definition, over the whole vocabulary: sorted, cut by each filter, drawn by the documented generator.
std::int32_t drawn_from_all(const std::vector<float>& logits, const SamplingOptions& o,
                            const WantedToken& w) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) { return at(a) > at(b); });
  if (o.greedy) return order[0];
  if (o.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(o.top_k)));
  std::vector<double> p;
  for (const std::int32_t id : order)
    p.push_back(std::exp(static_cast<double>(at(id) - at(order[0])) / o.temperature));
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  std::size_t n = 0;
  double kept = 0;
  while (n < p.size() && (n == 0 || (kept < o.top_p * all && p[n] >= o.min_p))) kept += p[n++];
  std::uint64_t x = 0;  // SplitMix64's finaliser over seed, stream, step
  for (const std::uint64_t word : {o.seed, w.stream, w.step}) {
    x += word + 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x ^= x >> 31;
  }
  double left = static_cast<double>(x >> 11) * 0x1p-53 * kept;
  for (std::size_t i = 0; i + 1 < n; ++i)
    if ((left -= p[i]) < 0) return order[i];
  return order[n - 1];
}

// A vocabulary of which the largest thousand come to the host: the definition applied to whole rows, on the
// CPU and on the emulated GPU, id for id.
TEST(Sampling, FromALargeVocabulary) {
  constexpr std::int64_t kRows = 24, kVocab = 5000;
  const SamplingOptions all[] = {{.greedy = true},
                                 {},
                                 {.temperature = 3},  // many draws behind the first thousand
                                 {.temperature = 0.3},
                                 {.top_k = 7},
                                 {.temperature = 3, .top_k = 1500},
                                 {.top_p = 0.6},
                                 {.temperature = 3, .top_p = 0.95},
                                 {.temperature = 2, .min_p = 0.01},
                                 {.temperature = 3, .min_p = 1e-9},
                                 {.top_k = 500, .top_p = 0.8, .min_p = 0.02, .repetition_penalty = 1.5},
                                 {.repetition_penalty = 0.5}};
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(kRows * kVocab);
  for (float& value : logits) value = normal(random);
  std::vector<std::vector<std::int32_t>> histories;
  std::vector<WantedToken> wanted;
  for (std::int64_t r = 0; r < kRows; ++r) {
    const auto row = logits.begin() + r * kVocab;
    histories.push_back({static_cast<std::int32_t>(std::max_element(row, row + kVocab) - row), 3, 3, 77});
  }
  for (std::int64_t r = 0; r < kRows; ++r)
    if (r != 4)
      wanted.push_back({r, histories[static_cast<std::size_t>(r)], 1, static_cast<std::uint64_t>(r)});

  for (const SamplingOptions& options : all) {
    std::vector<std::vector<std::int32_t>> found;
    for (const char* device : {"cpu", "emulated"}) {
      const auto backend = make_backend(device);
      std::vector<float> copy = logits;
      Buffer memory;
      const Tensor host(copy.data(), DType::f32, {kRows, kVocab});
      found.push_back(next_tokens(*backend, backend->on_device(host, memory), wanted, options));
    }
    EXPECT_EQ(found[0], found[1]);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto row = logits.begin() + wanted[i].row * kVocab;
      std::vector<float> penalised(row, row + kVocab);
      const std::set<std::int32_t> seen(wanted[i].history.begin(), wanted[i].history.end());
      for (const std::int32_t id : seen) {
        float& value = penalised[static_cast<std::size_t>(id)];
        value = static_cast<float>(value > 0 ? value / options.repetition_penalty
                                             : value * options.repetition_penalty);
      }
      EXPECT_EQ(found[0][i], drawn_from_all(penalised, options, wanted[i]));
    }
  }
}

}  // namespace
}  // namespace sonde::test
