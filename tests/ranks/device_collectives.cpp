// Run under mpiexec: NCCL's calls between emulated devices, each against a loop over what all ranks hold, and
// the same through Backend::join; then, asked by name, the ways in which ranks and networks fail.
//   device_collectives            checks everything, prints "ok" on rank 0
//   device_collectives CASE       hang | die | leave | lost, in a sum
//   device_collectives stage-CASE the same in a message from stage to stage; stage-busy: one at work for long
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "distributed/pair_link.h"
#include "kernels/devices.h"
#include "kernels/emulation/config.h"
#include "kernels/emulation/nccl_shim.h"
#include "runtime/error.h"
#include "tests/ranks/on_ranks.h"

namespace {

using namespace sonde;
using namespace sonde::emulated;

void good(cudaError_t error) {
  if (error != cudaSuccess) fail("{}: {}", cudaGetErrorString(error), gpu_error_detail());
}
void good(ncclResult_t result) {
  if (result != ncclSuccess) fail("{}", ncclGetErrorString(result));
}

template <class T>
constexpr ncclDataType_t kType = std::is_same_v<T, float>          ? ncclFloat32
                                 : std::is_same_v<T, double>       ? ncclFloat64
                                 : std::is_same_v<T, std::int32_t> ? ncclInt32
                                                                   : ncclInt64;

// What rank r holds at i: every rank can compute everybody's.
template <class T>
T value(int rank, std::size_t i) {
  return static_cast<T>(1e3 * std::sin(static_cast<double>(i) * 1.37 + rank));
}
template <class T>
std::vector<T> held(int rank, std::size_t first, std::size_t n) {
  std::vector<T> x;
  for (std::size_t i = 0; i < n; ++i) x.push_back(value<T>(rank, first + i));
  return x;
}
template <class T>
std::vector<T> reduced(int ranks, ncclRedOp_t op, std::size_t first, std::size_t n) {
  std::vector<T> sum = held<T>(0, first, n);
  for (int r = 1; r < ranks; ++r)
    for (std::size_t i = 0; i < n; ++i) {
      const T next = value<T>(r, first + i);
      sum[i] = op == ncclSum   ? sum[i] + next
               : op == ncclMax ? std::max(sum[i], next)
                               : std::min(sum[i], next);
    }
  return sum;
}

struct Device {
  cudaStream_t stream = nullptr, other = nullptr;
  ncclComm_t comm = nullptr;
  int rank = 0, ranks = 1;

  explicit Device(Communicator& world) : rank(world.rank()), ranks(world.size()) {
    good(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    good(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    ncclUniqueId id{};
    if (rank == 0) good(ncclGetUniqueId(&id));
    const std::string bytes = world.broadcast_bytes(std::string(id.internal, sizeof id.internal));
    std::memcpy(id.internal, bytes.data(), sizeof id.internal);
    emulation::plug_in(world.link());
    good(ncclCommInitRank(&comm, ranks, id, rank));
  }
  ~Device() {
    ncclCommDestroy(comm);
    cudaStreamDestroy(stream);
    cudaStreamDestroy(other);
  }
};

template <class T>
struct Array {
  T* data = nullptr;
  std::size_t n;
  cudaStream_t stream;
  Array(Device& device, std::size_t count) : n(count), stream(device.stream) {
    good(cudaMalloc(&data, std::max<std::size_t>(1, n) * sizeof(T)));
  }
  Array(Device& device, const std::vector<T>& values) : Array(device, values.size()) {
    good(cudaMemcpyAsync(data, values.data(), n * sizeof(T), cudaMemcpyHostToDevice, stream));
  }
  ~Array() { cudaFree(data); }
  void expect(const char* what, const std::vector<T>& expected) const {
    std::vector<T> found(n);
    good(cudaMemcpyAsync(found.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost, stream));
    good(cudaStreamSynchronize(stream));
    if (found.size() != expected.size() ||
        (n > 0 && std::memcmp(found.data(), expected.data(), n * sizeof(T)) != 0))
      fail("{} of {} values is wrong", what, n);
  }
};

template <class T>
void check_calls(Device& d, std::size_t n) {
  const auto ranks = static_cast<std::size_t>(d.ranks), mine = static_cast<std::size_t>(d.rank);
  for (const ncclRedOp_t op : {ncclSum, ncclMax, ncclMin}) {
    Array<T> x(d, held<T>(d.rank, 0, n)), y(d, n);
    good(ncclAllReduce(x.data, y.data, n, kType<T>, op, d.comm, d.stream));
    y.expect("all_reduce", reduced<T>(d.ranks, op, 0, n));
    good(ncclAllReduce(x.data, x.data, n, kType<T>, op, d.comm, d.stream));
    x.expect("all_reduce in place", reduced<T>(d.ranks, op, 0, n));
    Array<T> blocks(d, held<T>(d.rank, 0, n * ranks)), share(d, n);
    good(ncclReduceScatter(blocks.data, share.data, n, kType<T>, op, d.comm, d.stream));
    share.expect("reduce_scatter", reduced<T>(d.ranks, op, mine * n, n));
    good(ncclReduceScatter(blocks.data, blocks.data + mine * n, n, kType<T>, op, d.comm, d.stream));
    good(cudaMemcpyAsync(share.data, blocks.data + mine * n, n * sizeof(T), cudaMemcpyDeviceToDevice,
                         d.stream));
    share.expect("reduce_scatter in place", reduced<T>(d.ranks, op, mine * n, n));
  }
  std::vector<T> everybodys;
  for (int r = 0; r < d.ranks; ++r)
    for (const T v : held<T>(r, 0, n)) everybodys.push_back(v);
  Array<T> x(d, held<T>(d.rank, 0, n)), all(d, n * ranks);
  good(ncclAllGather(x.data, all.data, n, kType<T>, d.comm, d.stream));
  all.expect("all_gather", everybodys);
  for (int root = 0; root < d.ranks; ++root) {
    Array<T> from(d, held<T>(d.rank, 0, n)), to(d, n);
    good(ncclBroadcast(from.data, to.data, n, kType<T>, root, d.comm, d.stream));
    to.expect("broadcast", held<T>(root, 0, n));
  }
  // To the next rank and from the one before, to itself where it is alone; several at once.
  const int next = (d.rank + 1) % d.ranks, before = (d.rank + d.ranks - 1) % d.ranks;
  Array<T> from_before(d, n), twice(d, 2 * n), pair(d, held<T>(d.rank, 7, 2 * n));
  good(ncclGroupStart());
  good(ncclSend(x.data, n, kType<T>, next, d.comm, d.stream));
  good(ncclSend(pair.data, 2 * n, kType<T>, next, d.comm, d.stream));
  good(ncclRecv(from_before.data, n, kType<T>, before, d.comm, d.stream));
  good(ncclRecv(twice.data, 2 * n, kType<T>, before, d.comm, d.stream));
  good(ncclGroupEnd());
  from_before.expect("send and receive", held<T>(before, 0, n));
  twice.expect("the second of two sends", held<T>(before, 7, 2 * n));
  if (d.ranks > 1 && n > 0) {  // one way, ungrouped
    if (d.rank == 0) good(ncclSend(pair.data, 2 * n, kType<T>, 1, d.comm, d.stream));
    if (d.rank == 1) good(ncclRecv(twice.data, 2 * n, kType<T>, 0, d.comm, d.stream));
    if (d.rank == 1) twice.expect("a send alone", held<T>(0, 7, 2 * n));
  }
}

void check_misuse(Device& d) {
  Array<float> x(d, 8);
  float host[8];
  const auto refused = [](ncclResult_t found, ncclResult_t expected, const char* what) {
    if (found != expected) fail("{}: found '{}'", what, ncclGetErrorString(found));
  };
  refused(ncclAllReduce(host, host, 8, ncclFloat32, ncclSum, d.comm, d.stream), ncclInvalidArgument,
          "host memory");
  refused(ncclAllReduce(x.data, x.data, 9, ncclFloat32, ncclSum, d.comm, d.stream), ncclInvalidArgument,
          "too long");
  refused(ncclAllReduce(x.data, x.data, 8, ncclFloat32, ncclAvg, d.comm, d.stream), ncclInvalidArgument,
          "an op");
  refused(ncclBroadcast(x.data, x.data, 8, ncclFloat32, d.ranks, d.comm, d.stream), ncclInvalidArgument,
          "a root");
  refused(ncclSend(x.data, 8, ncclFloat32, d.rank, d.comm, d.stream), ncclInvalidUsage,
          "a send to itself alone");
  refused(ncclGroupEnd(), ncclInvalidUsage, "an end without a start");
}

// Until it has run a collective's result is NaN, and another stream that does not wait sees that.
void check_order(Device& d) {
  if (d.ranks == 1) return;
  constexpr std::size_t n = 257;
  Array<float> x(d, held<float>(d.rank, 0, n)), early(d, n), late(d, n);
  good(ncclAllReduce(x.data, x.data, n, ncclFloat32, ncclSum, d.comm, d.stream));
  good(cudaMemcpyAsync(early.data, x.data, n * 4, cudaMemcpyDeviceToDevice, d.other));
  good(cudaStreamSynchronize(d.other));
  cudaEvent_t done = nullptr;
  good(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
  good(cudaEventRecord(done, d.stream));
  good(cudaStreamWaitEvent(d.other, done));
  good(cudaMemcpyAsync(late.data, x.data, n * 4, cudaMemcpyDeviceToDevice, d.other));
  good(cudaStreamSynchronize(d.other));
  good(cudaEventDestroy(done));
  late.expect("a sum that was waited for", reduced<float>(d.ranks, ncclSum, 0, n));
  std::vector<float> found(n);
  good(cudaMemcpy(found.data(), early.data, n * 4, cudaMemcpyDeviceToHost));
  const bool lazy = emulation::config().streams == emulation::Streams::lazy;
  if (lazy && found == reduced<float>(d.ranks, ncclSum, 0, n)) fail("a sum was there before it was made");
}

void check_graph(Device& d) {
  constexpr std::size_t n = 33;
  Array<float> from(d, held<float>(d.rank, 0, n)), x(d, n);
  good(cudaStreamSynchronize(d.stream));
  good(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
  good(cudaMemcpyAsync(x.data, from.data, n * 4, cudaMemcpyDeviceToDevice, d.stream));
  good(ncclAllReduce(x.data, x.data, n, ncclFloat32, ncclSum, d.comm, d.stream));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  good(cudaStreamEndCapture(d.stream, &graph));
  good(cudaGraphInstantiate(&exec, graph));
  for (int i = 0; i < 3; ++i) {
    good(cudaGraphLaunch(exec, d.stream));
    x.expect("a graph's all_reduce", reduced<float>(d.ranks, ncclSum, 0, n));
  }
  good(cudaGraphExecDestroy(exec));
  good(cudaGraphDestroy(graph));
}

std::vector<float> ones_of(int rank, std::size_t n) { return held<float>(rank, 0, n); }

// The backend's, as models use them; one rank waits for its device while the other waits for its host.
void check_backend(Communicator& world) {
  if (world.size() == 1) return;
  const auto backend = make_emulated_backend();
  std::string why_not;
  const auto devices = backend->join(*world.link(), why_not);
  if (!devices) fail("emulated devices do not join: {}", why_not);
  Buffer memory, host;
  const std::int64_t calls = emulation::nccl_calls();
  for (int turn = 0; turn < 4; ++turn) {
    std::vector<float> mine = ones_of(world.rank(), 257);
    const Tensor x = backend->on_device(Tensor(mine.data(), DType::f32, {257}), memory);
    devices->all_reduce(x);
    if (turn == 2 && world.rank() == 0) backend->wait();
    if (turn == 2) world.barrier();
    const Tensor found = backend->on_host(x, host);
    if (std::memcmp(found.data, reduced<float>(world.size(), ncclSum, 0, 257).data(), 257 * 4) != 0)
      fail("all_reduce of the backend is wrong");
  }
  // Beside ops: after what computes the rows, before what reads them.
  for (int turn = 0; turn < 4; ++turn) {
    std::vector<float> mine = ones_of(world.rank(), 512);
    const Tensor x = backend->on_device(Tensor(mine.data(), DType::f32, {2, 256}), memory);
    for (int half = 0; half < 2; ++half) {
      backend->scale(x.slice_rows(half, 1), x.slice_rows(half, 1), 2);
      devices->start_all_reduce(x.slice_rows(half, 1));
    }
    devices->wait_for_sums();
    backend->scale(x, x, 2);
    const Tensor found = backend->on_host(x, host);
    std::vector<float> expected = reduced<float>(world.size(), ncclSum, 0, 512);
    for (float& v : expected) v *= 4;  // exact
    if (std::memcmp(found.data, expected.data(), 512 * 4) != 0) fail("sums beside ops are wrong");
  }
  if (emulation::nccl_calls() - calls != 12)
    fail("{} calls ran, expected 12", emulation::nccl_calls() - calls);
}

// Neighbours in a chain, as the stages of a pipeline are.
struct Chain {
  std::unique_ptr<Backend> backend = make_emulated_backend();
  std::unique_ptr<RankLink> link_before, link_next;
  std::unique_ptr<DeviceRanks> before, next;

  explicit Chain(Communicator& world) {
    for (const int lower : {0, 2, 1}) {
      if (lower + 1 >= world.size() || world.rank() < lower || world.rank() > lower + 1) continue;
      const bool first = world.rank() == lower;
      auto& link = first ? link_next : link_before;
      link = make_pair_link(*world.link(), lower);
      std::string why_not;
      (first ? next : before) = backend->join(*link, why_not);
      if (!why_not.empty()) fail("emulated devices do not join: {}", why_not);
    }
  }
};

// More messages than may be in flight, of several sizes, each overwritten as soon as it is sent; a rank adds
// 1 to what it hands on. What the last one finds comes back by the hosts when a rank has run as many further
// turns as there are ranks behind it, and one more.
void check_messages(Communicator& world) {
  if (world.size() == 1) return;
  Chain chain(world);
  Backend& ops = *chain.backend;
  Buffer memory, ones_memory, host;
  const int last = world.size() - 1, ahead = last - world.rank() + 1;
  const std::int64_t calls = emulation::nccl_calls();
  constexpr int kTurns = 9;
  const auto n_of = [](int turn) { return static_cast<std::size_t>(100 + 50 * (turn * 3 % 5)); };
  for (int turn = 0; turn < kTurns + ahead; ++turn) {
    if (turn < kTurns) {
      const auto n = static_cast<std::int64_t>(n_of(turn));
      std::vector<float> mine = held<float>(turn, 0, n_of(turn)), ones(n_of(turn), 1.0f);
      const Tensor x = ops.on_device(Tensor(mine.data(), DType::f32, {n}), memory);
      const Tensor one = ops.on_device(Tensor(ones.data(), DType::f32, {n}), ones_memory);
      if (chain.before) {
        ops.scale(x, x, 0);
        chain.before->receive(x, 0);
        ops.add(x, x, one);
      }
      if (chain.next) chain.next->send(x, 1);
      if (!chain.next) {
        const Tensor found = ops.on_host(x, host);
        for (int r = 0; r < last; ++r)
          world.send(std::span<const float>(found.f32(), static_cast<std::size_t>(n)), r);
        for (float& v : mine)
          for (int r = 0; r < last; ++r) v += 1.0f;
        if (std::memcmp(found.data, mine.data(), mine.size() * 4) != 0) fail("message {} is wrong", turn);
      }
      ops.scale(x, x, 0);
      if (turn % 2 == 1) ops.wait();
    }
    if (turn < ahead || !chain.next) continue;
    std::vector<float> found(n_of(turn - ahead)), expected = held<float>(turn - ahead, 0, found.size());
    world.receive(std::span(found), last);
    for (float& v : expected)
      for (int r = 0; r < last; ++r) v += 1.0f;
    if (found != expected) fail("what came of message {} is wrong", turn - ahead);
  }
  const int ends = (chain.before ? 1 : 0) + (chain.next ? 1 : 0);
  chain.before.reset();
  chain.next.reset();  // which waits until the last message is taken
  if (emulation::nccl_calls() - calls != ends * kTurns)
    fail("{} calls ran, expected {}", emulation::nccl_calls() - calls, ends * kTurns);
}

void check_all(Communicator& world) {
  {
    Device d(world);
    for (const std::size_t n : {0, 1, 7, 257, 20011}) {
      check_calls<float>(d, n);
      check_calls<double>(d, n);
    }
    check_calls<std::int32_t>(d, 33);
    check_calls<std::int64_t>(d, 33);
    check_misuse(d);
    check_order(d);
    check_graph(d);
  }
  check_backend(world);
  check_messages(world);
}

// The rank in the middle fails between what it receives and what it sends.
void fail_in_a_chain(Communicator& world, std::string_view how) {
  Chain chain(world);
  Buffer memory, host;
  for (int turn = 0; turn < 6; ++turn) {
    std::vector<float> mine = held<float>(turn, 0, 100);
    const Tensor x = chain.backend->on_device(Tensor(mine.data(), DType::f32, {100}), memory);
    if (turn == 3 && world.rank() == 1) {
      if (how == "stage-die") raise(SIGKILL);
      if (how == "stage-hang") raise(SIGSTOP);
      if (how == "stage-leave") return;
      if (how == "stage-fail") fail("a disk is full");
      // Slow is not hanging: it shows signs of life, and who waits for it says so.
      for (int i = 0; how == "stage-busy" && i < 14; ++i, world.beat()) usleep(500000);
    }
    if (chain.before) chain.before->receive(x, 0);
    if (chain.next) chain.next->send(x, 1);
    if (!chain.next) chain.backend->on_host(x, host);
    world.beat();
  }
}

void fail_as_asked(Communicator& world, std::string_view how) {
  if (how.starts_with("stage-")) return fail_in_a_chain(world, how);
  const bool odd_one = world.rank() == world.size() - 1;
  const auto backend = make_emulated_backend();
  std::string why_not;
  const auto devices = backend->join(*world.link(), why_not);
  Buffer memory, host;
  for (int turn = 0; turn < 6; ++turn) {
    std::vector<float> mine = ones_of(world.rank(), 100);
    const Tensor x = backend->on_device(Tensor(mine.data(), DType::f32, {100}), memory);
    if (turn == 3 && odd_one) {
      if (how == "die") raise(SIGKILL);
      if (how == "hang") raise(SIGSTOP);
      if (how == "leave") return;
    }
    devices->all_reduce(x);
    backend->on_host(x, host);
    world.beat();
  }
}

}  // namespace

int main(int argc, char** argv) { return sonde::test::on_ranks(argc, argv, check_all, fail_as_asked); }
