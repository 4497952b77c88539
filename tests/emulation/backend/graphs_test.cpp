// Launches that were seen before run as CUDA graphs: the same bits as one by one, whatever changes from step
// to step.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/devices.h"
#include "kernels/emulation/config.h"
#include "kernels/emulation/statistics.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using List = std::vector<std::int32_t>;

std::unique_ptr<Backend> backend_with(const char* graphs) {
  setenv("SONDE_GRAPHS", graphs, 1);
  auto backend = make_emulated_backend();
  unsetenv("SONDE_GRAPHS");
  return backend;
}

struct Counted {
  std::uint64_t made = emulation::statistics().graphs_made, run = emulation::statistics().graphs_run,
                launches = emulation::statistics().launches;
  Counted since() const {
    Counted now;
    now.made -= made, now.run -= run, now.launches -= launches;
    return now;
  }
};

// Two sequences that grow by a token a step: their rows of a cache, positions and keys change, and at 256
// keys the grid of attention does.
class Steps {
 public:
  explicit Steps(Backend& backend) : backend_(backend) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    const auto values = [&](std::int64_t n, std::int64_t width, Buffer& memory) {
      const OwnedTensor host = make_tensor(DType::f32, {n, width});
      for (std::int64_t i = 0; i < n * width; ++i) host.view.f32()[i] = normal(random);
      return backend.on_device(host.view, memory);
    };
    table_ = values(kVocab, kWidth, table_memory_);
    cache_ = values(kSequences * kRows, kWidth, cache_memory_);
    const OwnedTensor w = make_tensor(DType::f32, {kVocab, kWidth});
    for (std::int64_t i = 0; i < kVocab * kWidth; ++i) w.view.f32()[i] = normal(random);
    weight_ = backend.prepare_weight(w.view, Precision::f32);
    x_memory_ = backend.allocate(kSequences * kWidth * 4);
    z_memory_ = backend.allocate(kSequences * kWidth * 4);
    logits_memory_ = backend.allocate(kSequences * kVocab * 4);
  }

  // Next ids and logits, when each sequence has so many keys before this step.
  std::vector<float> run(std::int32_t keys) {
    const Tensor x = x_memory_.tensor(DType::f32, {kSequences, kWidth}),
                 z = z_memory_.tensor(DType::f32, {kSequences, kWidth}),
                 logits = logits_memory_.tensor(DType::f32, {kSequences, kVocab});
    const auto heads = [](Tensor t) { return t.reshape_row({kHeads, kWidth / kHeads}); };
    List rows, starts = {0}, first, count;
    for (std::int32_t s = 0; s < kSequences; ++s) {
      rows.push_back(s * kRows + keys + s);
      starts.push_back(s + 1);
      first.push_back(s * kRows);
      count.push_back(keys + s + 1);
    }
    backend_.embed(x, table_, ids_);
    backend_.replace_rows(cache_, rows, x);
    backend_.attention(heads(z), heads(x), heads(cache_), heads(cache_), Documents{starts}, {first, count},
                       {0.3f, 0, 0, Precision::f32});
    backend_.add(z, z, x);
    backend_.linear(logits, z, *weight_, {});
    std::vector<Candidate> next(kSequences);
    backend_.top_k(next, logits, 1);
    for (std::size_t s = 0; s < kSequences; ++s) ids_[s] = next[s].index;
    Buffer memory;
    const Tensor host = backend_.on_host(logits, memory);
    return {host.f32(), host.f32() + host.count()};
  }

 private:
  static constexpr std::int64_t kVocab = 40, kWidth = 32, kHeads = 2, kRows = 300;
  static constexpr std::int32_t kSequences = 5;  // enough rows for cuBLASLt
  Backend& backend_;
  Buffer table_memory_, cache_memory_, x_memory_, z_memory_, logits_memory_;
  Tensor table_, cache_;
  std::unique_ptr<Weight> weight_;
  List ids_ = List(kSequences, 1);
};

TEST(Graphs, StepsThatRepeatAreReplayed) {
  const auto plain = backend_with("0"), graphs = backend_with("1");
  Steps expected(*plain), found(*graphs);
  // As many keys in the longest sequence: one chunk, then two.
  for (const auto& [begin, end] : {std::pair(240, 251), std::pair(260, 271)}) {
    for (std::int32_t keys = begin; keys < end; ++keys) {
      const Counted start;
      const std::vector<float> want = expected.run(keys);
      const Counted one_by_one = start.since(), middle;
      const std::vector<float> got = found.run(keys);
      const Counted together = middle.since();
      ASSERT_EQ(std::memcmp(want.data(), got.data(), 4 * want.size()), 0) << "keys " << keys;
      EXPECT_TRUE(std::isfinite(want[0]));
      EXPECT_EQ(one_by_one.made + one_by_one.run, 0u);
      EXPECT_EQ(together.launches, one_by_one.launches);
      EXPECT_EQ(together.made, keys == begin + 1 ? 1u : 0u) << "keys " << keys;
      EXPECT_EQ(together.run, keys > begin ? 1u : 0u) << "keys " << keys;
    }
  }
}

// Alike in all but a pointer, a number or a grid.
TEST(Graphs, WorkThatDiffersIsNotReplayed) {
  const auto backend = backend_with("1");
  Buffer memory = backend->allocate(4 * 4 * 64), host;
  const Tensor all = memory.tensor(DType::f32, {4, 64});
  for (int i = 0; i < 12; ++i) {
    backend->zero(all);
    const Tensor x = all.slice_rows(i % 3, i % 2 + 1);
    const List every = i % 2 == 0 ? List{0} : List{0, 1};
    const OwnedTensor one = make_tensor(DType::f32, {1, 64});
    std::fill_n(one.view.f32(), 64, 1.0f);
    Buffer place;
    const Tensor ones = backend->on_device(one.view, place);
    const auto factor = static_cast<float>(i / 6 + 1);
    for (int k = 0; k < 5; ++k) backend->add_rows(x, every, ones, factor);
    const Tensor found = backend->on_host(all, host);
    for (std::int64_t r = 0; r < 4; ++r)
      ASSERT_EQ(found.row(r)[63], r >= i % 3 && r <= i % 3 + i % 2 ? 5 * factor : 0) << i << ", row " << r;
  }
}

// Memory that is given back is there for what was launched before.
TEST(Graphs, FreedMemoryOutlivesWhatReadsIt) {
  const auto backend = backend_with("1");
  Buffer sum_memory = backend->allocate(4 * 64), host;
  const Tensor sum = sum_memory.tensor(DType::f32, {1, 64});
  backend->zero(sum);
  for (int i = 0; i < 8; ++i) {
    Buffer passing = backend->allocate(4 * 64);
    const Tensor x = passing.tensor(DType::f32, {1, 64});
    const List row = {0}, columns = {0, 63};
    backend->zero(x);
    backend->fill_columns(x, row, columns, 1);
    backend->wait();
    backend->add(sum, sum, x);
    backend->add(sum, sum, x);
  }
  EXPECT_EQ(backend->on_host(sum, host).f32()[63], 16);
}

// Lists of one turn lie beside each other, and the next turn's in their places.
TEST(Graphs, ListsOfATurnAreKept) {
  const auto backend = backend_with("1");
  const std::int64_t n = 70000;
  Buffer memory = backend->allocate(4 * n), picked_memory = backend->allocate(3 * 4 * n), host;
  const OwnedTensor values = make_tensor(DType::f32, {n, 1});
  for (std::int64_t i = 0; i < n; ++i) values.view.f32()[i] = static_cast<float>(i);
  const Tensor x = backend->on_device(values.view, memory);
  const Tensor picked = picked_memory.tensor(DType::f32, {3 * n, 1});
  for (int turn = 0; turn < 4; ++turn) {
    std::vector<List> lists;
    for (const std::int64_t count : {std::int64_t{5}, turn == 2 ? n : 40000, std::int64_t{30000}}) {
      lists.emplace_back();
      for (std::int64_t i = 0; i < count; ++i)
        lists.back().push_back(static_cast<std::int32_t>((i * 7 + 13 * turn + count) % n));
    }
    std::int64_t at = 0;
    for (const List& list : lists) {
      const auto count = static_cast<std::int64_t>(list.size());
      backend->gather_rows(picked.slice_rows(at, count), x, list);
      at += count;
    }
    const Tensor found = backend->on_host(picked, host);
    at = 0;
    for (const List& list : lists)
      for (const std::int32_t row : list)
        ASSERT_EQ(found.f32()[at++], static_cast<float>(row)) << "turn " << turn;
  }
}

// An upload behind launches whose lists are yet to be uploaded.
TEST(Graphs, UploadsBehindLists) {
  const auto backend = backend_with("1");
  Buffer x_memory, y_memory, picked_memory = backend->allocate(4 * 8), host;
  const OwnedTensor values = make_tensor(DType::f32, {8, 1});
  std::iota(values.view.f32(), values.view.f32() + 8, 1.0f);
  const Tensor x = backend->on_device(values.view, x_memory),
               picked = picked_memory.tensor(DType::f32, {8, 1});
  for (int turn = 0; turn < 3; ++turn) {
    const List rows = {turn, 1, 2, 3, 4, 5, 6, 7};
    backend->gather_rows(picked, x, rows);
    const Tensor y = backend->on_device(values.view, y_memory);
    EXPECT_EQ(std::memcmp(backend->on_host(y, host).data, values.view.data, 4 * 8), 0);
    EXPECT_EQ(backend->on_host(picked, host).f32()[0], static_cast<float>(turn + 1));
  }
}

TEST(Graphs, LongWorkComesInPieces) {
  const auto backend = backend_with("1");
  Buffer sum_memory = backend->allocate(4 * 8), one_memory, host;
  const OwnedTensor ones = make_tensor(DType::f32, {1, 8});
  std::fill_n(ones.view.f32(), 8, 1.0f);
  const Tensor one = backend->on_device(ones.view, one_memory), sum = sum_memory.tensor(DType::f32, {1, 8});
  backend->zero(sum);
  backend->wait();
  const Counted start;
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 300; ++i) backend->add(sum, sum, one);
    EXPECT_EQ(backend->on_host(sum, host).f32()[0], 300 * (turn + 1));
  }
  const Counted done = start.since();
  EXPECT_EQ(done.launches, 900u);
  EXPECT_EQ(done.made, 2u);  // of 128 and of 44
  EXPECT_EQ(done.run, 7u);   // all but each one's first
}

// More pieces than are kept: the oldest are seen for the first time again.
TEST(Graphs, AreForgotten) {
  const auto backend = backend_with("1");
  Buffer memory = backend->allocate(4 * 8), host;
  const Tensor x = memory.tensor(DType::f32, {1, 8});
  const auto piece = [&](int n) {
    backend->zero(x);
    for (int i = 1; i < 100; ++i) backend->scale(x, x, static_cast<float>(n));
    backend->wait();
  };
  const auto graphs_of = [&](int n) {
    const Counted start;
    piece(n);
    return start.since().run;
  };
  EXPECT_EQ(graphs_of(0), 0u);
  EXPECT_EQ(graphs_of(0), 1u);
  for (int n = 1; n < 100; ++n) piece(n);
  EXPECT_EQ(graphs_of(0), 1u);
  for (int n = 100; n < 300; ++n) piece(n);
  EXPECT_EQ(graphs_of(0), 0u);
  EXPECT_EQ(backend->on_host(x, host).f32()[0], 0);
}

TEST(Graphs, TheSettingIsReadWithCare) {
  EXPECT_THROW(backend_with("yes"), UsageError);
  EXPECT_NO_THROW(backend_with("0"));
}

}  // namespace
}  // namespace sonde
