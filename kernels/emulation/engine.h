// The emulated device's streams: work is queued, and runs when something waits for it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/emulation/block.h"
#include "kernels/emulation/runtime_shim.h"
#include "kernels/emulation/work_order.h"

namespace sonde::emulation {

using emulated::cudaError_t;

// Memory that a piece of work overwrites: it holds NaN from the moment the work might start until it is done.
struct Target {
  void* data = nullptr;
  std::size_t bytes = 0;
};
struct Work {
  const char* what = "";
  std::function<Fault()> run;
  Target target;
  std::function<void()> begin = {};  // at the moment when it might start
};

struct EventState {
  std::uint64_t recorded = 0, completed = 0;
  double time = 0;  // seconds, of the last completion
  bool of_turns =
      false;  // says who is next and promises nothing about memory: who waits for it learns nothing
  Clock clock;
  std::shared_ptr<struct Capture> capture;  // recorded while that stream was captured
  std::size_t node = 0;
};
struct Event {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
  bool timed = true;
};

// A graph: work in the order in which it was recorded, each after the nodes that it needs.
struct Node {
  Work work;
  std::vector<std::size_t> after;
};
struct Graph {
  std::vector<Node> nodes;
};
struct GraphExec {
  std::shared_ptr<const Graph> graph;
};
struct Capture {
  Graph graph;
  Stream* origin = nullptr;
  bool invalid = false;
  std::set<Stream*> streams;
};

struct Task {
  enum class Kind : std::uint8_t { work, record, wait } kind = Kind::work;
  Work work;
  std::shared_ptr<EventState> event;
  std::uint64_t generation = 0;
  bool poisoned = false;
  Clock host;  // what the host knew when it submitted this
};
struct Stream {
  std::deque<Task> tasks;
  bool blocking = true;  // waits for the default stream, and is waited for
  int device = 0;
  std::size_t number = 0;
  Clock clock;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> last_nodes;  // of the capture: what the next node comes after
};

class Engine {
 public:
  static Engine& get();
  // Every call of the runtime holds this; kernels run under it.
  std::recursive_mutex mutex;

  Stream* resolve(Stream* stream);  // nullptr: the default stream; nullptr comes back for a dead handle
  Stream* create_stream(bool blocking);
  void destroy_stream(Stream* stream);
  Event* create_event(bool timed);
  void destroy_event(Event* event);
  bool alive(const Event* event) const { return events_.count(const_cast<Event*>(event)) > 0; }

  cudaError_t submit(Stream* stream, Work work);
  // Work that may wait for other processes, and keeps all others from running meanwhile: of all streams it
  // runs in the order in which it was submitted. So processes whose hosts submit in an order that ends end.
  cudaError_t submit_in_turn(Stream* stream, Work work);
  cudaError_t record(Stream* stream, Event& event);
  cudaError_t wait(Stream* stream, Event& event);
  // The host waits; drain is without its learning anything from it.
  void finish(Stream* stream);
  void drain(Stream* stream);
  void finish(const EventState& event, std::uint64_t generation);
  void finish_all();
  void run_some(Stream* stream);  // progress for those who poll
  void run_towards(const EventState& event);

  // Runs a graph's nodes, each after those it needs; Streams::random takes any such order.
  void run_graph(Stream& stream, const Graph& graph);

  bool capturing() const { return captures_ > 0; }
  cudaError_t begin_capture(Stream* stream);
  cudaError_t end_capture(Stream* stream, Graph** graph);

  // An error of a kernel stays and is what every later call returns.
  cudaError_t sticky() const { return sticky_; }
  void fail(const Fault& fault);
  void reset();

  cudaError_t last_error = cudaError_t::cudaSuccess;
  std::string detail;
  int current_device = 0;

 private:
  Engine();
  void push(Stream* stream, Task task);
  bool spoils_a_capture();
  void order_with_default_stream(Stream* stream);
  void order_after(Stream* later, Stream* earlier);
  void run_head(Stream* stream);
  void run_work(Stream& stream, const Work& work);
  bool runnable(const Stream& stream) const;
  Stream* recorder_of(const EventState& event, std::uint64_t generation);
  Stream* choose(Stream* wanted);
  void poison_targets();
  std::uint64_t next_random();

  Stream default_stream_;
  std::size_t stream_numbers_ = 1;
  Clock host_;
  std::shared_ptr<EventState> turn_;  // the end of what was last submitted in turn
  std::vector<std::unique_ptr<Stream>> streams_;
  std::set<Event*> events_;
  int captures_ = 0;
  cudaError_t sticky_ = cudaError_t::cudaSuccess;
  std::uint64_t random_ = 0;
};

// Pinned memory goes with the device.
void free_pinned_memory();

}  // namespace sonde::emulation
