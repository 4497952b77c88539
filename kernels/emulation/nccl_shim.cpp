#include "kernels/emulation/nccl_shim.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/emulation/access.h"
#include "kernels/emulation/device_memory.h"
#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/runtime_call.h"

namespace sonde::emulation {

// Work that is still queued keeps it.
struct NcclLine {
  RankLink* network = nullptr;  // null: one rank alone
  int rank = 0, size = 1;
  std::int64_t calls = 0;
  std::atomic<bool> lost{false}, aborted{false};
};
struct NcclComm {
  std::shared_ptr<NcclLine> line;
};

namespace {

using namespace emulated;

RankLink* next_network = nullptr;
std::atomic<std::int64_t> calls_run{0};

enum class Kind : std::uint8_t { all_reduce, all_gather, reduce_scatter, broadcast, send, receive };

struct Call {
  Kind kind;
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::size_t count = 0;  // as NCCL counts: of reduce_scatter what is received, else what is sent
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  // or root
};

std::size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclFloat64:
      return 8;
  }
  return 0;
}

bool moves_both_ways(Kind kind) { return kind < Kind::send; }
std::size_t bytes_from(const Call& c, const NcclLine& line) {
  if (c.kind == Kind::receive || (c.kind == Kind::broadcast && line.rank != c.peer)) return 0;
  const std::size_t blocks = c.kind == Kind::reduce_scatter ? static_cast<std::size_t>(line.size) : 1;
  return blocks * c.count * size_of(c.type);
}
std::size_t bytes_to(const Call& c, const NcclLine& line) {
  if (c.kind == Kind::send) return 0;
  const std::size_t blocks = c.kind == Kind::all_gather ? static_cast<std::size_t>(line.size) : 1;
  return blocks * c.count * size_of(c.type);
}

template <class T>
void reduce_typed(std::byte* to, const std::byte* rows, std::size_t ranks, std::size_t n, ncclRedOp_t op) {
  T* out = reinterpret_cast<T*>(to);
  const T* x = reinterpret_cast<const T*>(rows);
  for (std::size_t i = 0; i < n; ++i) {
    T value = x[i];
    for (std::size_t r = 1; r < ranks; ++r) {
      const T next = x[r * n + i];
      value = op == ncclSum ? value + next : op == ncclMax ? std::max(value, next) : std::min(value, next);
    }
    out[i] = value;
  }
}

void reduce(const Call& c, const std::byte* rows, int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  switch (c.type) {
    case ncclFloat32:
      return reduce_typed<float>(c.to, rows, n, c.count, c.op);
    case ncclFloat64:
      return reduce_typed<double>(c.to, rows, n, c.count, c.op);
    case ncclInt32:
      return reduce_typed<std::int32_t>(c.to, rows, n, c.count, c.op);
    default:
      return reduce_typed<std::int64_t>(c.to, rows, n, c.count, c.op);
  }
}

bool reduces(Kind kind) { return kind == Kind::all_reduce || kind == Kind::reduce_scatter; }

// Calls of a communicator in a stream that run as one.
struct Batch {
  std::shared_ptr<NcclLine> line;
  std::vector<Call> calls;
  std::vector<std::vector<std::byte>> sources;  // of each call, as they were when it could begin

  // From here on destinations may be overwritten; of calls in place that is where the source lies.
  void begin() {
    const DeviceAccess access;
    sources.assign(calls.size(), {});
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const std::size_t bytes = bytes_from(calls[i], *line);
      if (bytes > 0 && DeviceMemory::get().holds(calls[i].from, bytes))
        sources[i].assign(calls[i].from, calls[i].from + bytes);
    }
    if (!config().poison) return;
    for (const Call& c : calls)
      if (const std::size_t bytes = bytes_to(c, *line); bytes > 0 && DeviceMemory::get().holds(c.to, bytes))
        std::memset(c.to, 0xff, bytes);
  }

  Fault run() {
    for (const Call& c : calls) {
      const std::size_t from = bytes_from(c, *line), to = bytes_to(c, *line);
      if ((from > 0 && !DeviceMemory::get().holds(c.from, from)) ||
          (to > 0 && !DeviceMemory::get().holds(c.to, to)))
        return {kErrorIllegalAddress, "a collective on device memory that was freed before it ran"};
      if (from > 0) record_range(c.from, from, Access::read);
      if (to > 0) record_range(c.to, to, Access::write);
    }
    if (line->lost) return wait_for_abort();
    try {
      std::vector<RankLink::Send> sends;
      std::vector<RankLink::Receive> receives;
      for (std::size_t i = 0; i < calls.size(); ++i) {
        const auto bytes = static_cast<std::int64_t>(calls[i].count * size_of(calls[i].type));
        if (calls[i].kind == Kind::send) sends.push_back({calls[i].peer, sources[i].data(), bytes});
        if (calls[i].kind == Kind::receive) receives.push_back({calls[i].peer, calls[i].to, bytes});
        if (moves_both_ways(calls[i].kind)) run_collective(calls[i], sources[i].data());
      }
      move(sends, receives);
    } catch (const std::exception& error) {
      return {kErrorLaunchFailure, error.what()};
    }
    calls_run += static_cast<std::int64_t>(calls.size());
    sources.clear();
    return {};
  }

 private:
  // The real kernels spin until they are told to stop.
  Fault wait_for_abort() const {
    for (int i = 0; i < 2000 && !line->aborted; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return {kErrorLaunchFailure, "a collective never ended: the network is lost"};
  }

  // What a rank sends to itself is copied.
  void move(std::vector<RankLink::Send> sends, std::vector<RankLink::Receive> receives) const {
    const auto own = [&](int rank) { return rank == line->rank; };
    auto to = receives.begin();
    for (const RankLink::Send& send : sends) {
      if (!own(send.to)) continue;
      to = std::find_if(to, receives.end(), [&](const auto& r) { return own(r.from); });
      if (to == receives.end()) break;
      std::memcpy(to++->data, send.data, static_cast<std::size_t>(send.bytes));
    }
    std::erase_if(sends, [&](const auto& s) { return own(s.to); });
    std::erase_if(receives, [&](const auto& r) { return own(r.from); });
    if (!sends.empty() || !receives.empty()) line->network->exchange(sends, receives);
  }

  void run_collective(const Call& c, const std::byte* source) const {
    const auto bytes = static_cast<std::int64_t>(c.count * size_of(c.type));
    std::vector<std::byte> rows;  // [ranks, count] of what is to be reduced
    if (reduces(c.kind)) rows.resize(static_cast<std::size_t>(bytes * line->size));
    std::byte* const target = reduces(c.kind) ? rows.data() : c.to;
    std::vector<RankLink::Send> sends;
    std::vector<RankLink::Receive> receives;
    for (int r = 0; r < line->size; ++r) {
      if (c.kind != Kind::broadcast) {
        sends.push_back({r, source + (c.kind == Kind::reduce_scatter ? r * bytes : 0), bytes});
        receives.push_back({r, target + r * bytes, bytes});
      } else if (line->rank == c.peer) {
        sends.push_back({r, source, bytes});
      }
    }
    if (c.kind == Kind::broadcast) receives.push_back({c.peer, target, bytes});
    move(std::move(sends), std::move(receives));
    if (reduces(c.kind)) reduce(c, rows.data(), line->size);
  }
};

struct Grouped {
  NcclComm* comm;
  cudaStream_t stream;
  Call call;
};
thread_local int group_depth = 0;
thread_local std::vector<Grouped> grouped;

ncclResult_t submit(NcclComm* comm, cudaStream_t handle, std::vector<Call> calls) {
  auto batch = std::make_shared<Batch>(Batch{comm->line, std::move(calls), {}});
  NcclLine& line = *comm->line;
  line.calls += static_cast<std::int64_t>(batch->calls.size());
  if (config().network > 0 && line.calls > config().network) line.lost = true;
  const auto error = stream_call(handle, [&](Engine& engine, Stream* stream) {
    Work work{"collective", [batch] { return batch->run(); }, {}, [batch] { batch->begin(); }};
    return engine.submit_in_turn(stream, std::move(work));
  });
  return error == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t enqueue(NcclComm* comm, cudaStream_t stream, const Call& call) {
  if (!comm || size_of(call.type) == 0) return ncclInvalidArgument;
  const NcclLine& line = *comm->line;
  if (line.aborted) return ncclInvalidUsage;
  if (call.peer < 0 || call.peer >= line.size) return ncclInvalidArgument;
  if (reduces(call.kind)) {
    if (call.op != ncclSum && call.op != ncclMax && call.op != ncclMin) return ncclInvalidArgument;
    if (call.type != ncclFloat32 && call.type != ncclFloat64 && call.type != ncclInt32 &&
        call.type != ncclInt64)
      return ncclInvalidArgument;
  }
  const std::size_t from = bytes_from(call, line), to = bytes_to(call, line);
  if ((from > 0 && !DeviceMemory::get().holds(call.from, from)) ||
      (to > 0 && !DeviceMemory::get().holds(call.to, to)))
    return ncclInvalidArgument;
  if (call.count == 0) return ncclSuccess;
  if (group_depth > 0) {
    grouped.push_back({comm, stream, call});
    return ncclSuccess;
  }
  if (!moves_both_ways(call.kind) && call.peer == line.rank)
    return ncclInvalidUsage;  // its other half is missing
  return submit(comm, stream, {call});
}

}  // namespace

void plug_in(RankLink* network) { next_network = network; }
std::int64_t nccl_calls() { return calls_run; }

}  // namespace sonde::emulation

namespace sonde::emulated {

using emulation::Kind;

ncclResult_t ncclGetVersion(int* version) {
  if (!version) return ncclInvalidArgument;
  *version = 22800;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (!id) return ncclInvalidArgument;
  std::memset(id->internal, 0, sizeof id->internal);
  std::memcpy(id->internal, "emulated", 8);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  if (!comm || ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  if (std::memcmp(id.internal, "emulated", 8) != 0) return ncclInvalidArgument;
  RankLink* network = emulation::next_network;
  if (ranks > 1 && (!network || network->size() != ranks || network->rank() != rank)) return ncclSystemError;
  auto line = std::make_shared<emulation::NcclLine>();
  line->network = network;
  line->rank = rank;
  line->size = ranks;
  *comm = new emulation::NcclComm{std::move(line)};
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!comm) return ncclInvalidArgument;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!comm) return ncclInvalidArgument;
  comm->line->aborted = true;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (!comm || !error) return ncclInvalidArgument;
  *error = comm->line->lost ? ncclRemoteError : ncclSuccess;
  return ncclSuccess;
}
ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  if (!comm || !count) return ncclInvalidArgument;
  *count = comm->line->size;
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  if (!comm || !rank) return ncclInvalidArgument;
  *rank = comm->line->rank;
  return ncclSuccess;
}

namespace {
const std::byte* source(const void* data) { return static_cast<const std::byte*>(data); }
std::byte* target(void* data) { return static_cast<std::byte*>(data); }
}  // namespace

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return emulation::enqueue(comm, stream, {Kind::all_reduce, source(from), target(to), count, type, op, 0});
}
ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return emulation::enqueue(comm, stream,
                            {Kind::all_gather, source(from), target(to), count, type, ncclSum, 0});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return emulation::enqueue(comm, stream,
                            {Kind::reduce_scatter, source(from), target(to), count, type, op, 0});
}
ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return emulation::enqueue(comm, stream,
                            {Kind::broadcast, source(from), target(to), count, type, ncclSum, root});
}
ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return emulation::enqueue(comm, stream, {Kind::send, source(from), nullptr, count, type, ncclSum, peer});
}
ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return emulation::enqueue(comm, stream, {Kind::receive, nullptr, target(to), count, type, ncclSum, peer});
}

ncclResult_t ncclGroupStart() {
  ++emulation::group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (emulation::group_depth == 0) return ncclInvalidUsage;
  if (--emulation::group_depth > 0) return ncclSuccess;
  std::vector<emulation::Grouped> all = std::move(emulation::grouped);
  emulation::grouped.clear();
  while (!all.empty()) {  // one piece of work for each communicator and stream, in the order of their first
                          // calls
    emulation::NcclComm* const comm = all.front().comm;
    const cudaStream_t stream = all.front().stream;
    std::vector<emulation::Call> calls;
    for (const emulation::Grouped& g : all)
      if (g.comm == comm && g.stream == stream) calls.push_back(g.call);
    std::erase_if(all, [&](const auto& g) { return g.comm == comm && g.stream == stream; });
    if (const ncclResult_t result = emulation::submit(comm, stream, std::move(calls)); result != ncclSuccess)
      return result;
  }
  return ncclSuccess;
}

}  // namespace sonde::emulated
