// With one rank every call is the identity; and what all transports share: shares, sums in rank order, the
// mesh.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "distributed/agreement.h"
#include "distributed/communicator.h"
#include "distributed/mesh.h"
#include "distributed/reduce.h"
#include "distributed/shares.h"
#include "distributed/world.h"
#include "runtime/error.h"

namespace sonde {
namespace {

class Single : public ::testing::TestWithParam<std::size_t> {
 protected:
  std::unique_ptr<Communicator> ranks_ = make_single();
  std::vector<double> values() const {
    std::vector<double> x(GetParam());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
    return x;
  }
};

TEST_P(Single, EveryCallIsTheIdentity) {
  ranks_->check_contracts(true);
  const std::vector<double> x = values();
  std::vector<double> y = x, z(x.size());
  ranks_->all_reduce(std::span(y));
  EXPECT_EQ(y, x);
  ranks_->all_gather(std::span(z), std::span<const double>(x));
  EXPECT_EQ(z, x);
  z.assign(x.size(), 0);
  ranks_->reduce_scatter(std::span(z), std::span<const double>(x), Reduce::max);
  EXPECT_EQ(z, x);
  z.assign(x.size(), 0);
  ranks_->all_to_all(std::span(z), std::span<const double>(x));
  EXPECT_EQ(z, x);
  ranks_->broadcast(std::span(y));
  EXPECT_EQ(y, x);
  ranks_->barrier();
  z.assign(x.size(), 0);
  ranks_->send(std::span<const double>(x), 0);  // to itself
  ranks_->receive(std::span(z), 0);
  EXPECT_EQ(z, x);
}
INSTANTIATE_TEST_SUITE_P(Sizes, Single, ::testing::Values(0, 1, 7, 33, 257));

TEST(SingleRank, BytesGroupsAndTickets) {
  const auto ranks = make_single();
  EXPECT_EQ(ranks->gather_bytes("abc"), std::vector<std::string>{"abc"});
  EXPECT_EQ(ranks->broadcast_bytes("abc"), "abc");
  ranks->send_bytes("abc", 0);
  EXPECT_EQ(ranks->receive_bytes(0), "abc");
  float wrong = 0;
  EXPECT_THROW(ranks->receive(std::span(&wrong, 1), 0), Error);
  ranks->send(std::span<const float>(&wrong, 1), 0);
  EXPECT_THROW(ranks->receive(std::span<double>(), 0), Error);
  const auto group = ranks->split(3, 1, "data");
  EXPECT_EQ(group->size(), 1);
  EXPECT_EQ(group->name(), "world.data");
  const auto tickets = ranks->make_tickets();
  EXPECT_EQ(tickets->next(), 0);
  EXPECT_EQ(tickets->next(), 1);
  EXPECT_FALSE(tickets->closed());
  tickets->close();
  EXPECT_TRUE(tickets->closed());
  EXPECT_GT(tickets->next(), std::int64_t{1} << 39);
  agree(*ranks, "anything", "whatever", "");
}

TEST(SingleRank, SizesThatDoNotFitAreRefused) {
  const auto ranks = make_single();
  std::vector<float> three(3), four(4);
  EXPECT_THROW(ranks->all_gather(std::span(three), std::span<const float>(four)), Error);
  EXPECT_THROW(ranks->reduce_scatter(std::span(three), std::span<const float>(four)), Error);
  EXPECT_THROW(ranks->broadcast(std::span(three), 1), Error);
}

TEST(Shares, CoverEveryUnitOnceAndEvenly) {
  for (const std::int64_t n : {0, 1, 2, 7, 33, 257})
    for (const int ranks : {1, 2, 3, 4, 7}) {
      std::int64_t next = 0;
      for (int r = 0; r < ranks; ++r) {
        const Share share = share_of(n, r, ranks);
        EXPECT_EQ(share.begin, next);
        EXPECT_GE(share.size(), n / ranks);
        EXPECT_LE(share.size(), (n + ranks - 1) / ranks);
        next = share.end;
      }
      EXPECT_EQ(next, n);
    }
}

template <class T>
void check_rows(DType dtype, std::int64_t n) {
  constexpr std::int64_t kRanks = 3;
  std::vector<T> rows(static_cast<std::size_t>(kRanks * n)), out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] = static_cast<T>(100 * std::sin(static_cast<double>(i * i)));
  for (const Reduce op : {Reduce::sum, Reduce::min, Reduce::max}) {
    reduce_rows(out.data(), rows.data(), kRanks, n, dtype, op);
    for (std::int64_t i = 0; i < n; ++i) {
      const T a = rows[static_cast<std::size_t>(i)], b = rows[static_cast<std::size_t>(n + i)],
              c = rows[static_cast<std::size_t>(2 * n + i)];
      const T expected = op == Reduce::sum   ? static_cast<T>(static_cast<T>(a + b) + c)
                         : op == Reduce::min ? std::min({a, b, c})
                                             : std::max({a, b, c});
      ASSERT_EQ(out[static_cast<std::size_t>(i)], expected) << "column " << i;
    }
  }
}

TEST(ReduceRows, AddsInTheOrderOfTheRanks) {
  for (const std::int64_t n : {1, 7, 33, 257, 1024, 2049}) {
    check_rows<float>(DType::f32, n);
    check_rows<double>(DType::f64, n);
    check_rows<std::int32_t>(DType::i32, n);
    check_rows<std::int64_t>(DType::i64, n);
  }
  float x = 0;
  EXPECT_THROW(reduce_rows(&x, &x, 1, 1, DType::bf16, Reduce::sum), Error);
}

TEST(MeshOfOne, RefusesSizesThatDoNotDivide) {
  const auto world = make_single();
  const Mesh mesh = Mesh::make(*world, 1, 1);
  EXPECT_EQ(mesh.shape.data, 1);
  EXPECT_EQ(mesh.tensor->size(), 1);
  EXPECT_THROW(Mesh::make(*world, 2, 1), UsageError);
  EXPECT_THROW(Mesh::make(*world, 0, 1), UsageError);
}

TEST(World, IsSingleWithoutALauncher) {
  if (world_detail::launched()) GTEST_SKIP() << "this test was started by a launcher";
  EXPECT_EQ(join_world()->size(), 1);
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  setenv("SLURM_STEP_ID", "0", 1);
  EXPECT_THROW(join_world(), Error);  // srun without PMI
  unsetenv("SLURM_STEP_NUM_TASKS");
  unsetenv("SLURM_STEP_ID");
  setenv("PMIX_RANK", "0", 1);
  EXPECT_TRUE(world_detail::launched());
  setenv("SONDE_RANKS", "single", 1);
  EXPECT_EQ(join_world()->size(), 1);
  setenv("SONDE_RANKS", "many", 1);
  EXPECT_THROW(join_world(), UsageError);
  unsetenv("SONDE_RANKS");
  unsetenv("PMIX_RANK");
}

}  // namespace
}  // namespace sonde
