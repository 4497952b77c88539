#include "kernels/cuda/graphs.h"

#include <algorithm>
#include <functional>
#include <string_view>

namespace sonde::SONDE_GPU {
namespace {

std::size_t hash_of(std::span<const std::byte> bytes) {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// What the stream is given while this lives becomes a graph.
class Recording {
 public:
  explicit Recording(cudaStream_t stream) : stream_(stream) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a graph");
  }
  ~Recording() {
    if (!ended_) cudaStreamEndCapture(stream_, &graph_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
    cudaGetLastError();
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  cudaGraphExec_t end() {
    ended_ = true;
    check(cudaStreamEndCapture(stream_, &graph_), "recording a graph");
    cudaGraphExec_t ready = nullptr;
    check(cudaGraphInstantiate(&ready, graph_, 0), "making a graph (SONDE_GRAPHS=0 does without)");
    return ready;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  bool ended_ = false;
};

void forget(cudaGraphExec_t graph) {  // one that still runs is freed behind its end
  if (graph != nullptr && cudaGraphExecDestroy(graph) != cudaSuccess) cudaGetLastError();
}

}  // namespace

void Calls::run(std::span<const std::byte> calls, cudaStream_t stream) {
  while (!calls.empty()) {
    Header header;
    std::memcpy(&header, calls.data(), sizeof header);
    header.unpack(calls.data() + sizeof header, stream);
    calls = calls.subspan(header.bytes);
  }
}

Graphs::~Graphs() {
  for (const Known& known : known_) forget(known.graph);
}

Graphs::Known* Graphs::find(const Calls& calls, std::size_t hash) {
  const auto at = std::ranges::find_if(known_, [&](const Known& known) {
    return known.hash == hash && std::ranges::equal(known.calls, calls.bytes());
  });
  if (at == known_.end()) return nullptr;
  known_.splice(known_.begin(), known_, at);
  return &known_.front();
}

void Graphs::remember(const Calls& calls, std::size_t hash) {
  const auto bytes = calls.bytes();
  known_.push_front({hash, calls.count(), {bytes.begin(), bytes.end()}});
  kept_ += calls.count();
  for (; kept_ > kMost && known_.size() > 1; known_.pop_back()) {
    kept_ -= known_.back().count;
    forget(known_.back().graph);
  }
}

void Graphs::run(const Calls& calls, cudaStream_t stream) {
  if (calls.count() < kFewest) return Calls::run(calls.bytes(), stream);
  const std::size_t hash = hash_of(calls.bytes());
  Known* known = find(calls, hash);
  if (known == nullptr) {
    remember(calls, hash);
    return Calls::run(calls.bytes(), stream);
  }
  if (known->graph == nullptr) {
    Recording recording(stream);
    Calls::run(calls.bytes(), stream);
    known->graph = recording.end();
  }
  check(cudaGraphLaunch(known->graph, stream), "launching a graph");
}

}  // namespace sonde::SONDE_GPU
