// Run under mpiexec: a model spread over all ranks against the goldens, the oracle in double, and the same
// model on one rank. Every rank runs every test; sizes are odd, and some ranks hold nothing of an axis.
//   tensor_parallel [PIPELINE]     ranks / PIPELINE tensor ranks x PIPELINE stages
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <set>

#include "distributed/mesh.h"
#include "distributed/world.h"
#include "kernels/devices.h"
#include "kernels/emulation/nccl_shim.h"
#include "models/family.h"
#include "models/generator.h"
#include "models/plan/work.h"
#include "models/scoring.h"
#include "models/tensor_table.h"
#include "runtime/error.h"
#include "tests/models/golden.h"
#include "tests/models/oracle_compare.h"
#include "tests/models/oracle_greedy.h"
#include "tests/models/random_decoder.h"
#include "tests/models/smollm2.h"
#include "tests/ranks/stages.h"
#include "tests/shared_files.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

Communicator* world = nullptr;
Mesh mesh;

bool long_run() { return std::getenv("SONDE_LONG") != nullptr; }

LoadOptions spread(Precision precision = Precision::f32) {
  LoadOptions options;
  options.precision = precision;
  options.tensor_group = mesh.tensor.get();
  if (mesh.shape.pipeline > 1) options.stages = mesh.pipeline.get();
  return options;
}

// The same on every stage, with all layers: stages change no bit.
LoadOptions one_stage(Precision precision = Precision::f32) {
  LoadOptions options = spread(precision);
  options.stages = nullptr;
  return options;
}

std::vector<Activations> run(const Model& model, Backend& backend, const std::vector<Ids>& documents,
                             const RunOptions& options = {}) {
  return of_all_stages(model, run_packed(model, backend, documents, options));
}

RunOptions free_sites(const Model& model) {
  RunOptions options;
  for (const Site site : model.spec.sites())
    if (info(site.hook).cost == Cost::free) options.sites.push_back(site);
  return options;
}

const int kLengths[] = {1, 7, 13, 1, 34};

std::vector<Ids> documents(int vocab, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<Ids> result;
  for (const int length : kLengths) {
    result.emplace_back();
    for (int t = 0; t < length; ++t)
      result.back().push_back(static_cast<std::int32_t>(generator() % static_cast<unsigned>(vocab)));
  }
  return result;
}

void expect_near(const std::vector<Activations>& found, const std::vector<Activations>& expected,
                 double limit, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t d = 0; d < found.size(); ++d) {
    ASSERT_EQ(found[d].size(), expected[d].size());
    for (const auto& [site, captured] : expected[d]) {
      const Captured& mine = found[d].at(site);
      ASSERT_EQ(mine.row_shape, captured.row_shape) << what << ", " << site;
      // One token's scores are a few dot products, any of them near zero.
      const bool few = site.ends_with("scores") && captured.row_shape.back() == 1;
      EXPECT_LE(relative_error(mine.values, captured.values), few ? 1e-3 : limit) << what << ", " << site;
    }
  }
}

// Not silently through the hosts.
void expect_device_links(const Model& model, const Backend& backend) {
  const bool devices = backend.device() == DeviceKind::emulated, sums = mesh.shape.tensor > 1 && devices;
  EXPECT_EQ(model.device_ranks != nullptr, sums) << model.sums;
  EXPECT_EQ(model.sums.starts_with("emulated NCCL"), sums) << model.sums;
  const StageDevices& stages = model.stage_devices;
  EXPECT_EQ(stages.before != nullptr, devices && !model.stage.first()) << stages.how;
  EXPECT_EQ(stages.next != nullptr, devices && !model.stage.last()) << stages.how;
  EXPECT_EQ(stages.how == "emulated NCCL", devices && mesh.shape.pipeline > 1) << stages.how;
}

TEST(Goldens, EveryHook) {
  SONDE_REQUIRE_SHARED("golden/models");
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(shared_path))
    if (entry.is_directory()) folders.insert(entry.path());
  const auto cpu = make_cpu_backend(), emulated = make_emulated_backend();
  std::size_t turn = 0;
  for (const fs::path& folder : folders) {
    const Golden golden(folder);
    SCOPED_TRACE(folder.filename().string());
    for (Backend* backend : {cpu.get(), emulated.get()})
      for (const Precision precision : {Precision::f32, Precision::bf16}) {
        // The emulation is slow: a sample of it.
        if (backend == emulated.get() && !long_run() && (precision == Precision::bf16 || turn++ % 3 != 0))
          continue;
        for (const char* file : {"", "model.gguf"}) {
          if (!fs::exists(folder / file)) continue;
          const Model model = Model::load(folder / file, spread(precision), *backend);
          expect_device_links(model, *backend);
          const auto steps = run(model, *backend, golden.documents);
          golden.compare(steps, precision, "steps");
          golden.compare(run(model, *backend, golden.documents, free_sites(model)), precision, "fused",
                         false);
          if (mesh.shape.pipeline == 1) continue;
          const Model whole = Model::load(folder / file, one_stage(precision), *backend);
          EXPECT_EQ(whole.fingerprint, model.fingerprint);
          expect_same_bits(run(whole, *backend, golden.documents), steps, "one stage");
        }
      }
    if (::testing::Test::HasFailure()) return;
  }
}

class Family : public ::testing::TestWithParam<std::string> {
 protected:
  static unsigned models() { return long_run() ? 30 : 5; }
  std::unique_ptr<Backend> backend = make_cpu_backend();
};

TEST_P(Family, EveryHookIsTheOracles) {
  const auto emulated = make_emulated_backend();
  for (unsigned seed = 0; seed < models(); ++seed) {
    const RandomDecoder drawn = draw_decoder(GetParam(), seed);
    SCOPED_TRACE("model " + std::to_string(seed) + ": " + drawn.config.dump());
    const std::vector<Ids> inputs = documents(drawn.spec.vocab, seed);
    TempFolder folder;
    drawn.write_folder(folder.path());
    std::vector<fs::path> sources{folder.path()};
    if (drawn.has_gguf()) {
      sources.push_back(folder.path() / "model.gguf");
      drawn.gguf().write(sources.back());
    }
    std::vector<oracle::Activations> expected;
    for (const Ids& ids : inputs)
      expected.push_back(
          oracle::forward(drawn.spec, drawn.oracle_weights(), std::vector<int>(ids.begin(), ids.end())));
    const auto compare = [&](const std::vector<Activations>& found, std::size_t sites,
                             const std::string& what) {
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_EQ(found[i].size(), sites) << what;
        expect_close(found[i], expected[i], what + ", document of " + std::to_string(inputs[i].size()));
      }
    };
    for (const fs::path& path : sources) {
      const Model model = Model::load(path, spread(), *backend);
      const RunOptions outside = free_sites(model);
      const std::string what = path.extension().string();
      compare(run(model, *backend, inputs), expected[0].size(), what);
      compare(run(model, *backend, inputs, outside), outside.sites.size(), what + " fused");
    }
    if (seed == 0 || long_run()) {
      const Model model = Model::load(folder.path(), spread(), *emulated);
      expect_device_links(model, *emulated);
      const std::vector<Activations> found = run(model, *emulated, inputs);
      compare(found, expected[0].size(), "emulated");
      setenv("SONDE_SUMS", "host", 1);  // the emulated NCCL adds in the order in which hosts do
      const Model by_hosts = Model::load(folder.path(), spread(), *emulated);
      unsetenv("SONDE_SUMS");
      EXPECT_EQ(by_hosts.device_ranks, nullptr);
      EXPECT_EQ(by_hosts.stage_devices.before, nullptr);
      EXPECT_EQ(by_hosts.stage_devices.next, nullptr);
      expect_near(run(by_hosts, *emulated, inputs), found, 0, "sums and streams by hosts");
    }
    if (HasFailure()) return;
  }
}

// What is looked at does not change the sums: those of a parallel block's parts, which travel as one,
// neither.
TEST_P(Family, CapturesChangeNothing) {
  const RandomDecoder drawn = draw_decoder(GetParam(), 2);
  SCOPED_TRACE(drawn.config.dump());
  const std::vector<Ids> inputs = documents(drawn.spec.vocab, 2);
  TempFolder folder;
  drawn.write_folder(folder.path());
  const Model model = Model::load(folder.path(), spread(), *backend);
  RunOptions last, all = free_sites(model);
  last.sites = {{Hook::resid_post, static_cast<int>(model.spec.n_layers) - 1}, {Hook::logits}};
  const std::vector<Activations> few = run(model, *backend, inputs, last);
  std::vector<Activations> many = run(model, *backend, inputs, all);
  for (std::size_t d = 0; d < many.size(); ++d)
    std::erase_if(many[d], [&](const auto& entry) { return few[d].count(entry.first) == 0; });
  expect_near(few, many, 0, "with all captures");
}

// Long batches travel in halves beside the GEMMs, with the bits of whole sums by the hosts.
TEST_P(Family, HalvesHaveTheBitsOfTheWhole) {
  if (mesh.shape.tensor == 1 || mesh.shape.pipeline > 1) GTEST_SKIP() << "nothing is summed, or not by all";
  const auto emulated = make_emulated_backend();
  const RandomDecoder drawn = draw_decoder(GetParam(), 4);
  SCOPED_TRACE(drawn.config.dump());
  std::vector<Ids> inputs;
  for (std::size_t tokens = 0; tokens < 520; tokens += inputs.back().size())
    inputs.push_back(Ids(34, static_cast<std::int32_t>(inputs.size() % 5)));
  TempFolder folder;
  drawn.write_folder(folder.path());
  const auto last_rows = [&](const Model& model) {
    RunOptions options;
    options.sites = {{Hook::resid_post, static_cast<int>(model.spec.n_layers) - 1}};
    return run(model, *emulated, inputs, options);
  };
  const Model model = Model::load(folder.path(), spread(), *emulated);
  const std::int64_t before = emulation::nccl_calls();
  const std::vector<Activations> found = last_rows(model);
  const ModelSpec& s = model.spec;
  std::int64_t calls = 1;  // the embedding
  for (int l = 0; l < s.n_layers; ++l)
    calls += (s.order == BlockOrder::parallel ? 0 : 2) + (s.has_experts(l) ? 1 : 2);
  EXPECT_EQ(emulation::nccl_calls() - before, calls);
  setenv("SONDE_SUMS", "host", 1);
  const Model by_hosts = Model::load(folder.path(), spread(), *emulated);
  unsetenv("SONDE_SUMS");
  expect_near(last_rows(by_hosts), found, 0, "halves");
}

// At every point: an edit of the whole row, and where there are heads of one, as on one rank.
TEST_P(Family, EditsAreThoseOfOneRank) {
  const RandomDecoder drawn = draw_decoder(GetParam(), 3);
  SCOPED_TRACE(drawn.config.dump());
  const std::vector<Ids> inputs = documents(drawn.spec.vocab, 3);
  TempFolder folder;
  drawn.write_folder(folder.path());
  const Model alone = Model::load(folder.path(), {}, *backend),
              model = Model::load(folder.path(), spread(), *backend);
  EXPECT_EQ(alone.fingerprint, model.fingerprint);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (const Site site : model.spec.sites()) {
    const bool keys = info(site.hook).shape == RowShape::HS;
    if (site.hook == Hook::expert_indices) continue;
    std::int64_t width = 1;
    const std::vector<std::int64_t> shape = row_shape(site.hook, model.spec.hook_sizes());
    for (const std::int64_t n : shape) width *= n;
    std::vector<float> values(static_cast<std::size_t>(width));
    for (float& x : values) x = normal(generator);
    const auto edits = [&](Hooks& hooks, const HookSizes& sizes) {
      Edit scale{site, EditOp::scale, TokenSelector::parse("every:2")};
      scale.coefficient = 1.5f;
      if (shape.size() > 1) scale.heads = {shape[0] - 1};
      hooks.edit(std::move(scale), sizes);
      if (keys || shape[0] == 1) return;  // a divisor near zero would amplify rounding
      Edit add{site, EditOp::add, TokenSelector::parse("all")};
      add.value = make_tensor(DType::f32, {1, width});
      std::copy(values.begin(), values.end(), add.value.view.f32());
      add.coefficient = 0.25f;
      hooks.edit(std::move(add), sizes);
    };
    expect_near(run(model, *backend, inputs, {{}, "all", edits}),
                run(alone, *backend, inputs, {{}, "all", edits}), 1e-5, "edit at " + name(site));
    if (HasFailure()) return;
  }
}

TEST_P(Family, GreedyTokensAreTheOracles) {
  const RandomDecoder drawn = draw_decoder(GetParam(), 1);
  SCOPED_TRACE(drawn.config.dump());
  TempFolder folder;
  drawn.write_folder(folder.path());
  const Model model = Model::load(folder.path(), spread(), *backend);
  const std::vector<Ids> inputs = documents(drawn.spec.vocab, 1);
  expect_greedy_tokens(model, *backend, drawn, inputs, 8);
}

// One batch after another leaves each stage, whatever the others have reached; of every depth and every
// choice of tokens.
TEST_P(Family, BatchesInFlightHaveTheBitsOfOneStage) {
  if (mesh.shape.pipeline == 1) GTEST_SKIP() << "one stage";
  const RandomDecoder drawn = draw_decoder(GetParam(), 2);
  SCOPED_TRACE(drawn.config.dump());
  TempFolder folder;
  drawn.write_folder(folder.path());
  const Model whole = Model::load(folder.path(), one_stage(), *backend),
              model = Model::load(folder.path(), spread(), *backend);
  std::vector<Ids> inputs = documents(drawn.spec.vocab, 2);
  for (int i = 0; i < 3; ++i) inputs.insert(inputs.end(), inputs.begin(), inputs.begin() + 3);
  if (GetParam() == "llama" || long_run()) {  // between devices, edited on the way
    const auto emulated = make_emulated_backend();
    const auto edits = [&](Hooks& hooks, const HookSizes& sizes) {
      for (int l = 0; l < model.spec.n_layers; ++l) {
        Edit scale{{Hook::resid_post, l}, EditOp::scale, TokenSelector::parse("every:2")};
        scale.coefficient = 1.25f;
        hooks.edit(std::move(scale), sizes);
      }
    };
    const Site last{Hook::resid_post, static_cast<int>(model.spec.n_layers) - 1};
    const RunOptions options{{{Hook::resid_pre, 0}, last}, "all", edits};
    const Model whole_there = Model::load(folder.path(), one_stage(), *emulated),
                there = Model::load(folder.path(), spread(), *emulated);
    expect_same_bits(run_alone(whole_there, *emulated, inputs, options),
                     of_all_stages(there, run_alone(there, *emulated, inputs, options)), "between devices");
  }
  for (const Site site : model.spec.sites()) {
    const RunOptions options{{site}, site.layer % 2 == 0 ? "last" : "all", {}};
    expect_same_bits(run_alone(whole, *backend, inputs, options),
                     of_all_stages(model, run_alone(model, *backend, inputs, options)), name(site));
    if (HasFailure()) return;
  }
}

// Stages are cut by what a run needs of the model, and layers behind its last site are not loaded.
TEST_P(Family, AnyCutHasTheBitsOfOneStage) {
  if (mesh.shape.pipeline == 1) GTEST_SKIP() << "one stage";
  const RandomDecoder drawn = draw_decoder(GetParam(), 2);
  SCOPED_TRACE(drawn.config.dump());
  TempFolder folder;
  drawn.write_folder(folder.path());
  const Model whole = Model::load(folder.path(), one_stage(), *backend);
  const std::vector<Ids> inputs = documents(drawn.spec.vocab, 2);
  const int last = static_cast<int>(whole.spec.n_layers) - 1;
  for (const Site site :
       {Site{Hook::embed}, Site{Hook::resid_post, 0}, Site{Hook::resid_post, std::max(0, last - 1)},
        Site{Hook::resid_post, last}, Site{Hook::logits}})
    for (const char* tokens : {"last", "all"}) {
      LoadOptions load = spread();
      const std::array sites = {site};
      load.run = run_part_of(whole.spec, sites, 100, *tokens == 'l' ? 1 : 100);
      const Model model = Model::load(folder.path(), load, *backend);
      EXPECT_EQ(model.fingerprint, whole.fingerprint);
      EXPECT_LE(model.stage.layers.end, load.run.layers);
      const RunOptions options{{site}, tokens, {}};
      expect_same_bits(run_alone(whole, *backend, inputs, options),
                       of_all_stages(model, run_alone(model, *backend, inputs, options)), name(site));
      if (HasFailure()) return;
    }
}

TEST_P(Family, GeneratedIdsAreThoseOfOneStage) {
  if (mesh.shape.pipeline == 1) GTEST_SKIP() << "one stage";
  const RandomDecoder drawn = draw_decoder(GetParam(), 4);
  SCOPED_TRACE(drawn.config.dump());
  TempFolder folder;
  drawn.write_folder(folder.path());
  const std::vector<Ids> inputs = documents(drawn.spec.vocab, 4);
  const auto generate = [&](const LoadOptions& load, std::int64_t sequences) {
    const Model model = Model::load(folder.path(), load, *backend);
    GenerateOptions options;
    options.sampling.seed = 5;
    options.max_new = 9;
    options.context = 80;
    options.sequences = sequences;
    options.batch_tokens = 16;
    std::vector<std::vector<std::int32_t>> ids(inputs.size());
    Generator(model, *backend, options, {})
        .run(
            inputs, [](std::size_t, std::span<const std::int32_t>) { return false; },
            [&](std::size_t prompt, const Generated& generated) { ids[prompt] = generated.ids; });
    return ids;
  };
  const auto expected = generate(one_stage(), 1);
  for (const std::int64_t sequences : {1, 3, 16})
    EXPECT_EQ(generate(spread(), sequences), expected) << sequences;
}

INSTANTIATE_TEST_SUITE_P(Families, Family, ::testing::ValuesIn(decoder_families()),
                         [](const auto& p) { return p.param; });

// Bytes of the file that this process has touched: what of its mapping is in memory.
std::int64_t touched_bytes(const fs::path& file) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  std::int64_t kib = 0;
  bool of_file = false;
  while (std::getline(maps, line)) {
    if (line.find('-') < line.find(' ')) of_file = line.ends_with(file.string());
    if (of_file && line.starts_with("Rss:")) kib += std::atoll(line.c_str() + 4);
  }
  return kib * 1024;
}

TEST(Loader, ReadsItsShareOfTheFile) {
  const fs::path path = fs::weakly_canonical(smollm2_file());
  SONDE_REQUIRE_SMOLLM2();
  const auto backend = make_cpu_backend();
  const Model model = Model::load(path, spread(), *backend);
  const auto all = static_cast<double>(fs::file_size(path)), mine = static_cast<double>(touched_bytes(path));
  // Beside its rows a rank touches the pages that columns of others lie on, and a piece of each tensor for
  // the fingerprint.
  RecordProperty("fraction read", std::to_string(mine / all));
  std::printf("rank %d of %d read %.0f %% of the file\n", world->rank(), world->size(), 100 * mine / all);
  const int tensor = mesh.shape.tensor;
  double stage = 1;  // its tensors' share of the file
  if (mesh.shape.pipeline > 1) {
    auto bytes = static_cast<std::int64_t>(all);  // what is no tensor every rank has read
    for (const TensorRow& row : tensors_of(model.files, model.spec)) {
      const Tensor& view = find_tensor(model.files, row, 0).view;
      const std::int64_t own = bytes_of(view.dtype, view.count());
      // What a kernel maps when one page of another stage's tensor is looked at.
      const std::int64_t around = (256 << 10) + 2 * 4096;
      bytes += (model.stage.has(row, model.spec) ? own + 4096 : std::min(own, around)) - own;
    }
    stage = static_cast<double>(bytes) / all;
  }
  EXPECT_LT(mine / all, tensor == 1 ? stage + 0.03 : stage * (1.0 / tensor + 0.45));
}

}  // namespace
}  // namespace sonde::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const auto ranks = sonde::join_world();
  sonde::test::world = ranks.get();
  try {
    const int stages = argc > 1 ? std::atoi(argv[1]) : 1;
    sonde::test::mesh = sonde::Mesh::make(*ranks, ranks->size() / std::max(1, stages), stages);
    if (sonde::test::mesh.shape.data != 1) sonde::fail("{} stages on {} ranks", stages, ranks->size());
    const int failed = RUN_ALL_TESTS();
    const auto any = ranks->all_reduce(std::int64_t{failed}, sonde::Reduce::max);
    if (any == 0 && ranks->rank() == 0) std::printf("ok on %d ranks\n", ranks->size());
    sonde::test::mesh = {};
    return any != 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[rank %d] %s\n", ranks->rank(), error.what());
    ranks->abort(1);
    return 1;
  }
}
