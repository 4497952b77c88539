// Run under mpiexec: every collective against a loop over what all ranks hold, at odd sizes; then, asked by
// name, the ways in which ranks fail.
//   collectives            checks everything, prints "ok" on rank 0
//   collectives CASE       mismatch-size | mismatch-call | throw | hang | stop-in-call | die | leave | differ
//   |
//                          chain | circle | unsent | mismatch-message
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstring>
#include <set>
#include <string_view>
#include <thread>
#include <vector>

#include "distributed/agreement.h"
#include "distributed/mesh.h"
#include "distributed/shares.h"
#include "runtime/error.h"
#include "tests/ranks/on_ranks.h"

namespace {

using namespace sonde;

// What rank r holds at i: every rank can compute everybody's.
template <class T>
T value(int rank, std::int64_t i) {
  return static_cast<T>(1e3 * std::sin(static_cast<double>(i) * 1.37 + rank));
}

template <class T>
std::vector<T> held(int rank, std::int64_t n) {
  std::vector<T> x;
  for (std::int64_t i = 0; i < n; ++i) x.push_back(value<T>(rank, i));
  return x;
}

template <class T>
void expect(const char* what, std::int64_t n, const std::vector<T>& found, const std::vector<T>& expected) {
  if (found.size() == expected.size() &&
      (found.empty() || std::memcmp(found.data(), expected.data(), found.size() * sizeof(T)) == 0))
    return;
  fail("{} of {} values is wrong", what, n);
}

template <class T>
void check_reductions(Communicator& ranks, std::int64_t n) {
  for (const Reduce op : {Reduce::sum, Reduce::min, Reduce::max}) {
    std::vector<T> x = held<T>(ranks.rank(), n), expected = held<T>(0, n);
    for (int r = 1; r < ranks.size(); ++r)
      for (std::int64_t i = 0; i < n; ++i) {
        T& e = expected[static_cast<std::size_t>(i)];
        const T v = value<T>(r, i);
        e = op == Reduce::sum ? e + v : op == Reduce::min ? std::min(e, v) : std::max(e, v);
      }
    const std::vector<T> mine = x;
    ranks.all_reduce(std::span(x), op);
    expect("all_reduce", n, x, expected);  // bit for bit: the order of the ranks
    const Share share = share_of(n, ranks.rank(), ranks.size());
    std::vector<T> part(static_cast<std::size_t>(share.size()));
    ranks.reduce_scatter(std::span(part), std::span<const T>(mine), op);
    expect("reduce_scatter", n, part, {expected.begin() + share.begin, expected.begin() + share.end});
  }
}

template <class T>
void check_moves(Communicator& ranks, std::int64_t n) {
  const int size = ranks.size();
  std::vector<T> all(static_cast<std::size_t>(n * size)), expected;
  for (int r = 0; r < size; ++r)
    for (const T v : held<T>(r, n)) expected.push_back(v);
  const std::vector<T> mine = held<T>(ranks.rank(), n);
  ranks.all_gather(std::span(all), std::span<const T>(mine));
  expect("all_gather", n, all, expected);

  const std::vector<T> blocks = held<T>(ranks.rank(), n * size);
  expected.clear();
  for (int r = 0; r < size; ++r)
    for (std::int64_t i = 0; i < n; ++i) expected.push_back(value<T>(r, ranks.rank() * n + i));
  ranks.all_to_all(std::span(all), std::span<const T>(blocks));
  expect("all_to_all", n, all, expected);

  for (int root = 0; root < size; ++root) {
    std::vector<T> x = mine;
    ranks.broadcast(std::span(x), root);
    expect("broadcast", n, x, held<T>(root, n));
  }
}

// Around the ring: more messages than may be on their way, then of all sizes, empty ones too; each rank talks
// to its neighbours alone.
template <class T>
void check_messages(Communicator& ranks) {
  const int size = ranks.size(), next = (ranks.rank() + 1) % size, before = (ranks.rank() + size - 1) % size;
  for (const std::int64_t n : {0, 1, 7, 257, 20011, 3000001}) {
    const std::vector<T> mine = held<T>(ranks.rank(), n);
    std::vector<T> x(static_cast<std::size_t>(n));
    ranks.send(std::span<const T>(mine), next);
    ranks.receive(std::span(x), before);
    expect("receive", n, x, held<T>(before, n));
  }
  for (std::int64_t i = 0; i < 20; ++i) {
    if (ranks.rank() == 0) ranks.send(std::span<const std::int64_t>(&i, 1), next);
    std::int64_t found = -1;
    ranks.receive(std::span(&found, 1), before);
    if (found != i) fail("message {} is message {}", i, found);
    if (ranks.rank() != 0) ranks.send(std::span<const std::int64_t>(&i, 1), next);
  }
  for (const std::size_t n : {0UL, 5UL, 100000UL}) {
    ranks.send_bytes(std::string(n, static_cast<char>('a' + ranks.rank())), next);
    if (ranks.receive_bytes(before) != std::string(n, static_cast<char>('a' + before)))
      fail("{} bytes from rank {} are wrong", n, before);
  }
}

void check_all(Communicator& ranks) {
  for (const std::int64_t n : {0, 1, 7, 257, 20011}) {  // the last one travels in shares
    check_reductions<float>(ranks, n);
    check_moves<double>(ranks, n);
  }
  check_messages<float>(ranks);
  check_messages<std::int64_t>(ranks);
  check_reductions<double>(ranks, 33);
  check_reductions<std::int32_t>(ranks, 33);
  check_reductions<std::int64_t>(ranks, 33);
  ranks.check_contracts(false);
  check_reductions<double>(ranks, 100003);
  const auto text = [](int rank) {
    return std::string(static_cast<std::size_t>(rank * rank * 1000), 'a' + rank);
  };
  const std::vector<std::string> gathered = ranks.gather_bytes(text(ranks.rank()));
  for (int r = 0; r < ranks.size(); ++r)
    if (gathered[static_cast<std::size_t>(r)] != text(r)) fail("gather_bytes: rank {} is wrong", r);
  const int last = ranks.size() - 1;
  if (ranks.broadcast_bytes(ranks.rank() == last ? "from the last" : "", last) != "from the last")
    fail("broadcast_bytes is wrong");
}

void check_tickets(Communicator& ranks) {
  const auto tickets = ranks.make_tickets();
  std::string mine;
  for (std::int64_t t; (t = tickets->next()) < 1000;) mine += fmt::format("{} ", t);
  std::string all;
  for (const std::string& one : ranks.gather_bytes(mine)) all += one;
  std::set<int> seen;
  std::size_t count = 0;
  for (std::size_t begin = 0, end; (end = all.find(' ', begin)) != std::string::npos;
       begin = end + 1, ++count)
    seen.insert(std::stoi(all.substr(begin, end - begin)));
  if (seen.size() != 1000 || count != 1000)
    fail("{} tickets of which {} differ, expected 1000", count, seen.size());
  ranks.barrier();
  if (ranks.rank() == ranks.size() - 1) tickets->close();
  ranks.barrier();
  if (!tickets->closed() || tickets->next() < 1000)
    fail("the tickets are not closed on rank {}", ranks.rank());
}

void check_mesh(Communicator& world) {
  for (int tensor = 1; tensor <= world.size(); ++tensor) {
    if (world.size() % tensor != 0) continue;
    const Mesh mesh = Mesh::make(world, tensor, 1);
    if (mesh.tensor->size() != tensor || mesh.stage->size() != world.size())
      fail("mesh of {} is wrong", tensor);
    // Tensor neighbours are consecutive ranks.
    const std::int64_t least = mesh.tensor->all_reduce(std::int64_t{world.rank()}, Reduce::min);
    const std::int64_t most = mesh.tensor->all_reduce(std::int64_t{world.rank()}, Reduce::max);
    if (most - least != tensor - 1 || world.rank() / tensor != least / tensor)
      fail("tensor groups are not neighbours");
    check_moves<float>(*mesh.stage, 33);
    check_reductions<double>(*mesh.tensor, 33);
  }
}

// Each call counts what nccl-tests' bus bandwidth does, along its group's axis.
void check_traffic(Communicator& world) {
  const auto group = world.split(0, world.rank(), "counted");
  group->lie_along(Axis::tensor);
  const auto n = static_cast<std::size_t>(group->size());
  std::vector<double> x(60 * n), all(60 * n * n), share(60);
  const std::array<Traffic, kAxes> before = traffic();
  const std::int64_t bytes = 8 * 60 * (group->size() - 1);  // (N - 1) / N of x
  std::int64_t sent = 0;
  const auto expect = [&](const char* call, std::int64_t more, std::int64_t receives) {
    sent += more;
    const auto now = traffic();
    if (now[1].sent - before[1].sent != sent || now[1].received - before[1].received != receives)
      fail("{}: {} bytes sent and {} received, expected {} and {}", call, now[1].sent - before[1].sent,
           now[1].received - before[1].received, sent, receives);
    if (now[0].sent != before[0].sent || now[2].sent != before[2].sent) fail("{} along another axis", call);
  };
  group->all_reduce(std::span(x));
  expect("all_reduce", 2 * bytes, sent + 2 * bytes);
  group->all_gather(std::span(all), std::span<const double>(x));
  expect("all_gather", bytes * group->size(), sent + bytes * group->size());
  group->reduce_scatter(std::span(share), std::span<const double>(x));
  expect("reduce_scatter", bytes, sent + bytes);
  group->broadcast(std::span(x));
  expect("broadcast", bytes, sent + bytes);
  if (group->size() == 1) return;
  if (group->rank() == 0) group->send(std::span<const double>(share), 1);
  if (group->rank() == 1) group->receive(std::span(share), 0);
  const std::int64_t here = sent;
  expect("send", group->rank() == 0 ? 480 : 0, here + (group->rank() == 1 ? 480 : 0));
}

void check_everything(Communicator& world) {
  world.check_contracts(true);
  check_all(world);
  check_tickets(world);
  check_mesh(world);
  check_traffic(world);
}

void fail_as_asked(Communicator& world, std::string_view how) {
  world.check_contracts(how.starts_with("mismatch"));
  const bool odd_one = world.rank() == world.size() - 1;
  std::vector<float> x(odd_one ? 8 : 9);
  if (how == "mismatch-size") world.all_reduce(std::span(x));
  if (how == "mismatch-call") odd_one ? world.barrier() : world.all_reduce(std::span(x));
  if (how == "differ") agree(world, "the answer", odd_one ? "41" : "42", "ask again");
  if (how == "throw" && odd_one) fail("the odd one fails");
  if (how == "die" && odd_one) raise(SIGKILL);
  if (how == "hang") {
    // Signs of life first, so that silence is told from a slow start.
    for (int i = 0; i < 3; ++i) world.beat();
    if (odd_one) raise(SIGSTOP);
  }
  if (how == "stop-in-call") {  // one is stopped while it waits for another, which then comes
    for (int i = 0; i < 3; ++i) world.beat();
    if (odd_one)
      std::thread([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        raise(SIGSTOP);
      }).detach();
    if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    world.barrier();
    world.barrier();
  }
  if ((how == "leave" || how == "unsent") && odd_one) return;
  std::vector<double> message(10);
  const int next = (world.rank() + 1) % world.size(),
            before = (world.rank() + world.size() - 1) % world.size();
  if (how == "circle" || (how == "unsent" && world.rank() == 0)) world.receive(std::span(message), before);
  if (how == "mismatch-message" && odd_one) world.send(std::span<const double>(message), next);
  if (how == "mismatch-message" && world.rank() == 0) world.receive(std::span(x), before);
  if (how == "chain") {  // waits for one that waits for one that is at work: nothing is wrong
    for (int i = 0; i < 6 && world.rank() == 0; ++i) {
      usleep(1000000);
      world.beat();
    }
    if (world.rank() > 0) world.receive(std::span(message), before);
    if (!odd_one) world.send(std::span<const double>(message), next);
  }
  world.barrier();
}

}  // namespace

int main(int argc, char** argv) { return sonde::test::on_ranks(argc, argv, check_everything, fail_as_asked); }
