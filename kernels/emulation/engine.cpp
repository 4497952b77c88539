#include "kernels/emulation/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/emulation/access.h"
#include "kernels/emulation/device_memory.h"
#include "kernels/emulation/error_codes.h"

namespace sonde::emulation {

using emulated::cudaError_t;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void poison(const Target& target) {
  if (!target.data || !config().poison) return;
  const DeviceAccess access;
  if (DeviceMemory::get().in_range(target.data) && !DeviceMemory::get().holds(target.data, target.bytes))
    return;
  std::memset(target.data, 0xff, target.bytes);
}

}  // namespace

WorkOrder& work_order() {
  static WorkOrder order;
  return order;
}

Engine& Engine::get() {
  static Engine engine;
  return engine;
}

Engine::Engine() { DeviceMemory::get(); }

std::uint64_t Engine::next_random() {
  if (!random_) random_ = config().seed * 0x9e3779b97f4a7c15ull | 1;
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return random_ >> 32;
}

// ---- handles

Stream* Engine::resolve(Stream* stream) {
  if (!stream) return &default_stream_;
  for (const auto& known : streams_)
    if (known.get() == stream) return stream;
  return nullptr;
}

Stream* Engine::create_stream(bool blocking) {
  streams_.push_back(std::make_unique<Stream>());
  streams_.back()->blocking = blocking;
  streams_.back()->device = current_device;
  streams_.back()->number = stream_numbers_++;
  return streams_.back().get();
}

void Engine::destroy_stream(Stream* stream) {  // its work is still done, as CUDA promises
  drain(stream);
  std::erase_if(streams_, [&](const auto& known) { return known.get() == stream; });
}

Event* Engine::create_event(bool timed) {
  auto* event = new Event;
  event->timed = timed;
  events_.insert(event);
  return event;
}

void Engine::destroy_event(Event* event) {
  events_.erase(event);
  delete event;
}

// ---- queues

cudaError_t Engine::submit(Stream* stream, Work work) {
  if (stream->capture) {
    auto& nodes = stream->capture->graph.nodes;
    nodes.push_back({std::move(work), stream->last_nodes});
    stream->last_nodes = {nodes.size() - 1};
    return cudaError_t::cudaSuccess;
  }
  if (stream == &default_stream_ && spoils_a_capture()) return cudaError_t::cudaErrorStreamCaptureImplicit;
  order_with_default_stream(stream);
  Task task;
  task.work = std::move(work);
  push(stream, std::move(task));
  return cudaError_t::cudaSuccess;
}

cudaError_t Engine::submit_in_turn(Stream* stream, Work work) {
  if (stream->capture) return submit(stream, std::move(work));  // its turn is the graph's
  const auto push_turn = [&](Task::Kind kind) {
    Task task;
    task.kind = kind;
    task.event = turn_;
    task.generation = 1;
    push(stream, std::move(task));
  };
  if (turn_ && turn_->completed == 0) push_turn(Task::Kind::wait);
  const cudaError_t error = submit(stream, std::move(work));
  turn_ = std::make_shared<EventState>();
  turn_->recorded = 1;
  turn_->of_turns = true;
  push_turn(Task::Kind::record);
  return error;
}

cudaError_t Engine::record(Stream* stream, Event& event) {
  if (stream->capture) {
    event.state = std::make_shared<EventState>();
    event.state->capture = stream->capture;
    event.state->node = stream->capture->graph.nodes.size();
    auto& node = stream->capture->graph.nodes.emplace_back();
    node.work.run = [] { return Fault{}; };
    node.after = stream->last_nodes;
    stream->last_nodes = {event.state->node};
    return cudaError_t::cudaSuccess;
  }
  if (event.state->capture) event.state = std::make_shared<EventState>();
  order_with_default_stream(stream);
  Task task;
  task.kind = Task::Kind::record;
  task.event = event.state;
  task.generation = ++event.state->recorded;
  push(stream, std::move(task));
  return cudaError_t::cudaSuccess;
}

cudaError_t Engine::wait(Stream* stream, Event& event) {
  if (event.state->capture) {
    auto& capture = event.state->capture;
    if (stream->capture && stream->capture != capture) return cudaError_t::cudaErrorStreamCaptureIsolation;
    if (!stream->capture) {  // joins the capture
      drain(stream);
      stream->capture = capture;
      capture->streams.insert(stream);
      stream->last_nodes.clear();
    }
    stream->last_nodes.push_back(event.state->node);
    return cudaError_t::cudaSuccess;
  }
  if (stream->capture) {
    // An event from outside would tie the graph to one moment.
    stream->capture->invalid = true;
    return cudaError_t::cudaErrorStreamCaptureIsolation;
  }
  if (event.state->recorded == 0) return cudaError_t::cudaSuccess;
  Task task;
  task.kind = Task::Kind::wait;
  task.event = event.state;
  task.generation = event.state->recorded;
  push(stream, std::move(task));
  return cudaError_t::cudaSuccess;
}

// Work in the default stream would have to wait for what blocking streams only record.
bool Engine::spoils_a_capture() {
  bool spoils = false;
  for (const auto& other : streams_)
    if (other->blocking && other->capture) spoils = other->capture->invalid = true;
  return spoils;
}

void Engine::push(Stream* stream, Task task) {
  task.host = host_;
  stream->tasks.push_back(std::move(task));
  if (config().streams == Streams::eager) {
    drain(stream);
    return;
  }
  poison_targets();
  if (config().streams == Streams::random && next_random() % 4 == 0) run_some(stream);
}

// The default stream comes after all earlier work of blocking streams, and before all their later work.
void Engine::order_with_default_stream(Stream* stream) {
  if (stream == &default_stream_) {
    for (const auto& other : streams_)
      if (other->blocking && !other->capture) order_after(stream, other.get());
  } else if (stream->blocking) {
    order_after(stream, &default_stream_);
  }
}

void Engine::order_after(Stream* later, Stream* earlier) {
  if (earlier->tasks.empty()) return later->clock.join(earlier->clock);
  auto state = std::make_shared<EventState>();
  state->recorded = 1;
  for (auto kind : {Task::Kind::record, Task::Kind::wait}) {
    Task task;
    task.kind = kind;
    task.event = state;
    task.generation = 1;
    (kind == Task::Kind::record ? earlier : later)->tasks.push_back(std::move(task));
  }
}

bool Engine::runnable(const Stream& stream) const {
  if (stream.tasks.empty()) return false;
  const Task& head = stream.tasks.front();
  return head.kind != Task::Kind::wait || head.event->completed >= head.generation;
}

// Memory that the first task of a stream will overwrite may be overwritten from now on.
void Engine::poison_targets() {
  const auto look = [&](Stream& stream) {
    if (!runnable(stream)) return;
    Task& head = stream.tasks.front();
    if (head.poisoned || head.kind != Task::Kind::work) return;
    head.poisoned = true;
    if (head.work.begin) head.work.begin();
    poison(head.work.target);
  };
  look(default_stream_);
  for (const auto& stream : streams_) look(*stream);
}

void Engine::run_work(Stream& stream, const Work& work) {
  if (sticky_ != cudaError_t::cudaSuccess) return;
  const DeviceAccess access;
  const std::uint64_t count = stream.clock.tick(stream.number);
  if (accesses_are_checked()) {
    work_order().moments.push_back({work.what, stream.number, count});
    work_order().now = stream.clock;
  }
  accesses_of_work_begin();
  Fault fault = work.run();
  const std::string wrong = accesses_of_work_end();
  if (!fault.code && !wrong.empty()) fault = {kErrorLaunchFailure, wrong};
  if (fault.code) fail(fault);
}

void Engine::run_head(Stream* stream) {
  poison_targets();
  Task task = std::move(stream->tasks.front());
  stream->tasks.pop_front();
  stream->clock.join(task.host);
  switch (task.kind) {
    case Task::Kind::work: {
      run_work(*stream, task.work);
      break;
    }
    case Task::Kind::record:
      task.event->completed = std::max(task.event->completed, task.generation);
      task.event->time = now();
      if (!task.event->of_turns) task.event->clock = stream->clock;
      break;
    case Task::Kind::wait:
      stream->clock.join(task.event->clock);
      break;
  }
  poison_targets();
}

Stream* Engine::recorder_of(const EventState& event, std::uint64_t generation) {
  const auto records = [&](const Stream& stream) {
    return std::any_of(stream.tasks.begin(), stream.tasks.end(), [&](const Task& task) {
      return task.kind == Task::Kind::record && task.event.get() == &event && task.generation >= generation;
    });
  };
  if (records(default_stream_)) return &default_stream_;
  for (const auto& stream : streams_)
    if (records(*stream)) return stream.get();
  return nullptr;
}

// Whose task runs next so that `wanted` gets on: its own, or what its head waits for, or anybody's.
Stream* Engine::choose(Stream* wanted) {
  if (config().streams == Streams::random && next_random() % 2) {
    std::vector<Stream*> ready;
    if (runnable(default_stream_)) ready.push_back(&default_stream_);
    for (const auto& stream : streams_)
      if (runnable(*stream)) ready.push_back(stream.get());
    if (!ready.empty()) return ready[next_random() % ready.size()];
  }
  while (!runnable(*wanted)) {
    const Task& head = wanted->tasks.front();
    wanted = recorder_of(*head.event, head.generation);
    if (!wanted) break;
  }
  return wanted;
}

void Engine::finish(Stream* stream) {
  drain(stream);
  host_.join(stream->clock);
}

void Engine::drain(Stream* stream) {
  while (!stream->tasks.empty()) {
    Stream* next = choose(stream);
    if (!next) {  // cannot be: what an event waits for was submitted before
      stream->tasks.pop_front();
      continue;
    }
    run_head(next);
  }
}

void Engine::finish(const EventState& event, std::uint64_t generation) {
  while (event.completed < generation) {
    Stream* recorder = recorder_of(event, generation);
    if (!recorder) return;
    run_head(choose(recorder));
  }
  host_.join(event.clock);
}

void Engine::finish_all() {
  finish(&default_stream_);
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (!streams_[i]->capture) finish(streams_[i].get());
}

void Engine::run_some(Stream* stream) {
  if (stream->tasks.empty()) return;
  if (Stream* next = choose(stream)) run_head(next);
}

void Engine::run_towards(const EventState& event) {
  if (Stream* recorder = recorder_of(event, event.recorded)) run_some(recorder);
}

// ---- errors

void Engine::fail(const Fault& fault) {
  if (sticky_ != cudaError_t::cudaSuccess) return;
  sticky_ = static_cast<cudaError_t>(fault.code);
  last_error = sticky_;
  detail = fault.message;
}

void Engine::reset() {
  for (const auto& stream : streams_) stream->tasks.clear();
  default_stream_.tasks.clear();
  DeviceMemory::get().clear();
  free_pinned_memory();
  sticky_ = last_error = cudaError_t::cudaSuccess;
  detail.clear();
  captures_ = 0;
  turn_.reset();
  for (const auto& stream : streams_) stream->capture.reset();
  random_ = 0;
}

// ---- graphs

cudaError_t Engine::begin_capture(Stream* stream) {
  if (stream == &default_stream_) return cudaError_t::cudaErrorStreamCaptureUnsupported;
  if (stream->capture) return cudaError_t::cudaErrorIllegalState;
  drain(stream);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->streams = {stream};
  stream->last_nodes.clear();
  ++captures_;
  return cudaError_t::cudaSuccess;
}

cudaError_t Engine::end_capture(Stream* stream, Graph** graph) {
  *graph = nullptr;
  const auto capture = stream->capture;
  if (!capture) return cudaError_t::cudaErrorIllegalState;
  if (capture->origin != stream) return cudaError_t::cudaErrorStreamCaptureUnmatched;
  // Every stream that joined must have been waited for: its last node is before the origin's.
  std::vector<bool> reached(capture->graph.nodes.size());
  const std::function<void(std::size_t)> reach = [&](std::size_t node) {
    if (reached[node]) return;
    reached[node] = true;
    for (const std::size_t before : capture->graph.nodes[node].after) reach(before);
  };
  for (const std::size_t node : stream->last_nodes) reach(node);
  bool joined = true;
  for (Stream* member : capture->streams) {
    for (const std::size_t node : member->last_nodes) joined = joined && reached[node];
    member->capture.reset();
    member->last_nodes.clear();
  }
  --captures_;
  if (capture->invalid) return cudaError_t::cudaErrorStreamCaptureInvalidated;
  if (!joined) return cudaError_t::cudaErrorStreamCaptureUnjoined;
  *graph = new Graph(std::move(capture->graph));
  return cudaError_t::cudaSuccess;
}

void Engine::run_graph(Stream& stream, const Graph& graph) {
  std::vector<bool> done(graph.nodes.size());
  std::uint64_t random = config().seed | 1;
  for (std::size_t left = graph.nodes.size(); left; --left) {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const auto& after = graph.nodes[i].after;
      if (!done[i] && std::all_of(after.begin(), after.end(), [&](std::size_t node) { return done[node]; }))
        ready.push_back(i);
      if (!ready.empty() && config().streams != Streams::random) break;
    }
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    const std::size_t node = ready[(random >> 33) % ready.size()];
    if (graph.nodes[node].work.begin) graph.nodes[node].work.begin();
    poison(graph.nodes[node].work.target);
    run_work(stream, graph.nodes[node].work);
    done[node] = true;
  }
}

}  // namespace sonde::emulation
