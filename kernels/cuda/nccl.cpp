// NCCL's calls are handed to the stream and return; a thread looks at what became of them: a rank that dies
// shows as an asynchronous error, one that never comes as a call that is not done.
#include "kernels/cuda/nccl.h"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/traffic.h"

#if GPU_EMULATED
#include "kernels/emulation/nccl_shim.h"
#define SONDE_NCCL_CALL(name) decltype(&sonde::emulated::name) name = &sonde::emulated::name;
#else
#include <dlfcn.h>
#include <nccl.h>
#define SONDE_NCCL_CALL(name) decltype(&::name) name = find<decltype(&::name)>(#name);
#endif

namespace sonde::SONDE_GPU {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLook{100};
// A call that is this old is looked at. The emulated device runs when somebody waits: from then on our thread
// does.
constexpr milliseconds kOld{GPU_EMULATED ? 200 : 1000};
constexpr double kMore = 5;       // seconds beyond the patience of who can name the culprit
constexpr double kMessage = 600;  // of a message: the other rank may be at work
constexpr double kTimes = 10;     // the longest time between two calls' ends so far

#if !GPU_EMULATED
// Which order sums run in depends on these; the user may choose others.
void choose_algorithm() {
  setenv("NCCL_ALGO", "Ring", 0);
  setenv("NCCL_PROTO", "Simple", 0);
}

void* open_library(std::string& why_not) {
  static void* const library = [] {
    choose_algorithm();
    void* opened = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    return opened != nullptr ? opened : dlopen("libnccl.so", RTLD_NOW | RTLD_LOCAL);
  }();
  if (library == nullptr) why_not = "libnccl.so.2 cannot be opened";
  return library;
}

template <class F>
F find(const char* name) {
  std::string why_not;
  void* const function = dlsym(open_library(why_not), name);
  if (function == nullptr) fail("NCCL has no {}", name);
  return reinterpret_cast<F>(function);
}
#endif

struct Library {
  SONDE_NCCL_CALL(ncclGetVersion)
  SONDE_NCCL_CALL(ncclGetErrorString)
  SONDE_NCCL_CALL(ncclGetLastError)
  SONDE_NCCL_CALL(ncclGetUniqueId)
  SONDE_NCCL_CALL(ncclCommInitRank)
  SONDE_NCCL_CALL(ncclCommDestroy)
  SONDE_NCCL_CALL(ncclCommAbort)
  SONDE_NCCL_CALL(ncclCommGetAsyncError)
  SONDE_NCCL_CALL(ncclAllReduce)
  SONDE_NCCL_CALL(ncclAllGather)
  SONDE_NCCL_CALL(ncclSend)
  SONDE_NCCL_CALL(ncclRecv)
};

// What each rank has, at every rank.
template <class T>
std::vector<T> gather(RankLink& link, const T& mine) {
  std::vector<T> all(static_cast<std::size_t>(link.size()), mine);
  std::vector<RankLink::Send> sends;
  std::vector<RankLink::Receive> receives;
  for (int r = 0; r < link.size(); ++r) {
    if (r == link.rank()) continue;
    sends.push_back({r, &mine, sizeof mine});
    receives.push_back({r, &all[static_cast<std::size_t>(r)], sizeof mine});
  }
  link.exchange(sends, receives);
  return all;
}

// Whether this rank can join, and which device it brings.
struct Candidate {
  char why_not[128], host[256];
  int device[3];  // PCI domain, bus, device
};

Candidate candidate(int ordinal) {
  Candidate mine{};
  std::string why_not;
  const char* asked = std::getenv("SONDE_SUMS");
  if (asked != nullptr && std::strcmp(asked, "host") == 0) why_not = "SONDE_SUMS=host";
#if !GPU_EMULATED
  if (why_not.empty()) open_library(why_not);
#endif
  std::strncpy(mine.why_not, why_not.c_str(), sizeof mine.why_not - 1);
  gethostname(mine.host, sizeof mine.host - 1);
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, ordinal), "asking for the GPU's properties");
  mine.device[0] = p.pciDomainID;
  mine.device[1] = p.pciBusID;
  mine.device[2] = p.pciDeviceID;
  return mine;
}

// Why this group cannot use NCCL, the same on all its ranks; empty: it can.
std::string obstacle(const std::vector<Candidate>& all) {
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].why_not[0] != '\0') return fmt::format("rank {} of the group: {}", r, all[r].why_not);
    for (std::size_t other = 0; other < r && !GPU_EMULATED; ++other)
      if (std::strcmp(all[r].host, all[other].host) == 0 &&
          std::memcmp(all[r].device, all[other].device, sizeof all[r].device) == 0)
        return fmt::format("ranks {} and {} of the group are on one GPU of {}", other, r, all[r].host);
  }
  return {};
}

class NcclRanks : public DeviceRanks {
 public:
  NcclRanks(int ordinal, Stream& stream, std::shared_ptr<DeviceMemory> memory, RankLink& link)
      : ordinal_(ordinal), stream_(stream), memory_(std::move(memory)), link_(link) {
    ncclUniqueId id{};
    if (link.rank() == 0) check_nccl(library_.ncclGetUniqueId(&id), "asking NCCL for an id");
    id = gather(link, id)[0];
#if GPU_EMULATED
    emulation::plug_in(&link);
#endif
    check_nccl(library_.ncclCommInitRank(&comm_, link.size(), id, link.rank()), "joining the ranks by NCCL");
    check(cudaStreamCreateWithFlags(&beside_, cudaStreamNonBlocking), "creating a stream");
    for (cudaEvent_t* event : {&computed_, &summed_, &sending_[0].taken, &sending_[1].taken})
      check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
    thread_ = std::thread([this] { watch(); });
  }

  ~NcclRanks() override {
    const bool failing = std::uncaught_exceptions() > 0;
    if (!failing) cudaStreamSynchronize(stream_.handle());
    for (Sending& s : sending_)
      if (!failing) wait_until_taken(s);
    if (!failing) cudaStreamSynchronize(beside_);
    {
      const std::lock_guard guard(mutex_);
      stop_ = true;
    }
    stopping_.notify_all();
    thread_.join();
    // Destroying waits for the others, who may not come.
    failing ? library_.ncclCommAbort(comm_) : library_.ncclCommDestroy(comm_);
    for (const Call& call : calls_) cudaEventDestroy(call.done);
    for (const cudaEvent_t event : spare_) cudaEventDestroy(event);
    for (const cudaEvent_t event : {computed_, summed_, sending_[0].taken, sending_[1].taken})
      cudaEventDestroy(event);
    cudaStreamDestroy(beside_);
  }

  std::string describe() const override {
    if (GPU_EMULATED) return "emulated NCCL, in the order of the ranks";
    int version = 0;
    library_.ncclGetVersion(&version);
    const auto setting = [](const char* name) {
      const char* value = std::getenv(name);
      return value != nullptr ? value : "default";
    };
    return fmt::format("NCCL {}.{}.{}, {}, {}", version / 10000, version / 100 % 100, version % 100,
                       setting("NCCL_ALGO"), setting("NCCL_PROTO"));
  }

  void all_reduce(Tensor x) override { reduce(x, stream_); }

  void start_all_reduce(Tensor x) override {
    check(cudaEventRecord(computed_, stream_), "recording an event");
    check(cudaStreamWaitEvent(beside_, computed_, 0), "ordering streams");
    reduce(x, beside_);
  }

  void wait_for_sums() override {
    check(cudaEventRecord(summed_, beside_), "recording an event");
    check(cudaStreamWaitEvent(stream_, summed_, 0), "ordering streams");
  }

  void all_gather(Tensor all, Tensor mine) override {
    sonde_check(mine.dtype == DType::f32 && mine.contiguous() && all.dtype == DType::f32 &&
                    all.contiguous() && all.count() == link_.size() * mine.count(),
                "all_gather of {} into {}", mine.describe(), all.describe());
    count(4 * all.count());
    call("NCCL all_gather", kAll, stream_, [&] {
      return library_.ncclAllGather(mine.data, all.data, static_cast<std::size_t>(mine.count()), ncclFloat32,
                                    comm_, stream_);
    });
  }

  void send(Tensor x, int to) override {
    sonde_check(x.dtype == DType::f32 && x.contiguous(), "a message of {}", x.describe());
    static_assert(kInFlight == 2);
    Sending& s = sending_[sent_++ % kInFlight];
    wait_until_taken(s);
    if (s.memory.bytes() < x.count() * 4) s.memory = Buffer(x.count() * 4, memory_);
    check(cudaMemcpyAsync(s.memory.data(), x.data, static_cast<std::size_t>(x.count() * 4),
                          cudaMemcpyDeviceToDevice, stream_),
          "copying a message");
    check(cudaEventRecord(computed_, stream_), "recording an event");
    check(cudaStreamWaitEvent(beside_, computed_, 0), "ordering streams");
    s.number = call(kSend, to, beside_, [&] {
      return library_.ncclSend(s.memory.data(), static_cast<std::size_t>(x.count()), ncclFloat32, to, comm_,
                               beside_);
    });
    check(cudaEventRecord(s.taken, beside_), "recording an event");
    s.to = to;
    link_.count(4 * x.count(), 0);
  }

  void receive(Tensor x, int from) override {
    sonde_check(x.dtype == DType::f32 && x.contiguous(), "a message of {}", x.describe());
    link_.count(0, 4 * x.count());
    call("NCCL receive", from, stream_, [&] {
      return library_.ncclRecv(x.data, static_cast<std::size_t>(x.count()), ncclFloat32, from, comm_,
                               stream_);
    });
  }

 private:
  static constexpr int kAll = -1;
  static constexpr const char* kSend = "NCCL send";

  struct Call {
    std::int64_t number;
    const char* name;
    int peer;  // of a message; else kAll
    Clock::time_point since;
    cudaEvent_t done;
    // Ops go on beside a send. The emulated device runs one piece of work at a time.
    bool keeps_ops() const { return GPU_EMULATED || name != kSend; }
  };
  // A message that left, and its memory until it was taken.
  struct Sending {
    Buffer memory;
    cudaEvent_t taken = nullptr;
    int to = kAll;  // nobody: there is none
    std::int64_t number = 0;
  };

  void wait_until_taken(Sending& s) {
    if (s.to == kAll) return;
    link_.device_waits(kSend, s.to, s.number);
    const cudaError_t error = cudaEventSynchronize(s.taken);
    link_.device_waits(nullptr, s.to, s.number);
    s.to = kAll;
    if (std::uncaught_exceptions() == 0) check(error, "waiting for a message to be taken");
  }

  void check_nccl(ncclResult_t result, const char* doing) const {
    if (result == ncclSuccess) return;
    const std::string more = comm_ != nullptr ? library_.ncclGetLastError(comm_) : "";
    fail_hint("NCCL_DEBUG=INFO says more", "{}: NCCL says {}{}{}", doing, library_.ncclGetErrorString(result),
              more.empty() ? "" : ": ", more);
  }

  void count(std::int64_t bytes) {  // of a call that all ranks are in
    const std::int64_t own = bytes_each_way(bytes, link_.size());
    link_.count(own, own);
  }

  void reduce(Tensor x, cudaStream_t stream) {
    sonde_check(x.dtype == DType::f32 && x.contiguous(), "all_reduce of {}", x.describe());
    count(2 * 4 * x.count());
    call("NCCL all_reduce", kAll, stream, [&] {
      return library_.ncclAllReduce(x.data, x.data, static_cast<std::size_t>(x.count()), ncclFloat32, ncclSum,
                                    comm_, stream);
    });
  }

  template <class F>
  std::int64_t call(const char* name, int peer, cudaStream_t stream, const F& f) {
    const std::lock_guard guard(mutex_);
    link_.device_calls(++issued_);
    check_nccl(f(), name);
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream, &capture), "asking whether a graph is recorded");
    if (capture != cudaStreamCaptureStatusNone) return issued_;  // it runs when the graph does
    if (spare_.empty())
      check(cudaEventCreateWithFlags(&spare_.emplace_back(), cudaEventDisableTiming), "creating an event");
    const cudaEvent_t done = spare_.back();
    spare_.pop_back();
    check(cudaEventRecord(done, stream), "recording an event");
    calls_.push_back({issued_, name, peer, Clock::now(), done});
    return issued_;
  }

  void watch() {
    if (!GPU_EMULATED)
      cudaSetDevice(ordinal_);  // the emulated runtime may be busy with a call that never ends
#if !GPU_EMULATED
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;  // looking at events breaks no graph
    cudaThreadExchangeStreamCaptureMode(&mode);
#endif
    double longest = 0;  // seconds between two calls' ends, while one waited
    Clock::time_point last = Clock::now();
    std::unique_lock lock(mutex_);
    while (!stopping_.wait_for(lock, kLook, [this] { return stop_; })) {
      look_for_errors();
      while (!calls_.empty()) {
        const Call oldest = calls_.front();
        const auto now = Clock::now();
        const auto start = std::max(last, oldest.since);
        const bool old = now - oldest.since >= kOld;
        if (GPU_EMULATED && !old) break;
        if (old && oldest.keeps_ops()) link_.device_waits(oldest.name, oldest.peer, oldest.number);
        lock.unlock();
        const bool over = is_over(oldest.done);
        lock.lock();
        const double took = std::chrono::duration<double>(now - start).count();
        if (!over) {
          const double most = oldest.peer == kAll ? link_.patience() + kMore : kMessage;
          if (link_.patience() > 0 && took > std::max(most, kTimes * longest))
            end_run(
                oldest,
                fmt::format("is not done after {:.0f} s: a rank of the group or the network is gone", took));
          break;
        }
        if (oldest.keeps_ops()) link_.device_waits(nullptr, oldest.peer, oldest.number);
        longest = std::max(longest, took);
        last = now;
        spare_.push_back(oldest.done);
        calls_.pop_front();
      }
    }
  }

  static bool is_over(cudaEvent_t event) {
    const cudaError_t state = GPU_EMULATED ? cudaEventSynchronize(event) : cudaEventQuery(event);
    if (state == cudaErrorNotReady) cudaGetLastError();
    return state != cudaErrorNotReady;  // an error of the device is the host's to report
  }

  void look_for_errors() {
    ncclResult_t error = ncclSuccess;
    library_.ncclCommGetAsyncError(comm_, &error);
    if (error == ncclSuccess || error == ncclInProgress) return;
    const Call call = calls_.empty() ? Call{issued_, "a call", kAll, {}, nullptr} : calls_.front();
    end_run(call, fmt::format("failed: NCCL says {}", library_.ncclGetErrorString(error)));
  }

  void end_run(const Call& call, const std::string& what) {
    // Those behind it are not known to be over either.
    const std::string numbers = issued_ > call.number ? fmt::format("{} to {}", call.number, issued_)
                                                      : fmt::format("{}", call.number);
    link_.end_run(fmt::format("{} (call {} of {}) {}. HINT: NCCL_DEBUG=INFO says more; "
                              "SONDE_WATCHDOG_SECONDS sets the patience",
                              call.name, numbers, link_.name(), what),
                  [this] { library_.ncclCommAbort(comm_); });
  }

  const Library library_;
  const int ordinal_;
  Stream& stream_;
  const std::shared_ptr<DeviceMemory> memory_;
  RankLink& link_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t beside_ = nullptr;  // what travels while ops go on
  cudaEvent_t computed_ = nullptr, summed_ = nullptr;
  Sending sending_[kInFlight];
  std::size_t sent_ = 0;

  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;
  std::int64_t issued_ = 0;
  std::deque<Call> calls_;  // not yet seen to be over
  std::vector<cudaEvent_t> spare_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<DeviceRanks> join_nccl(int ordinal, Stream& stream, std::shared_ptr<DeviceMemory> memory,
                                       RankLink& link, std::string& why_not) {
  why_not = obstacle(gather(link, candidate(ordinal)));
  if (!why_not.empty()) return nullptr;
  return std::make_unique<NcclRanks>(ordinal, stream, std::move(memory), link);
}

}  // namespace sonde::SONDE_GPU
