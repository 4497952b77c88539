#include "kernels/emulation/runtime_call.h"
#include "kernels/emulation/statistics.h"

namespace sonde::emulated {
namespace {

using emulation::Engine;
using emulation::Event;
using emulation::runtime_call;
using emulation::Stream;
using emulation::stream_call;

template <class F>
cudaError_t event_call(cudaEvent_t event, F&& f) {
  return runtime_call([&](Engine& engine) {
    if (!event || !engine.alive(event)) return cudaErrorInvalidResourceHandle;
    return f(engine);
  });
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return runtime_call([&](Engine& engine) {
    if (!stream || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
    *stream = engine.create_stream(flags != cudaStreamNonBlocking);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  if (!handle) return cudaErrorInvalidResourceHandle;
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    engine.destroy_stream(stream);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (stream->capture) {
      stream->capture->invalid = true;
      return cudaErrorStreamCaptureUnsupported;
    }
    engine.finish(stream);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (stream->capture) {
      stream->capture->invalid = true;
      return cudaErrorStreamCaptureUnsupported;
    }
    engine.run_some(stream);
    if (!stream->tasks.empty()) return cudaErrorNotReady;
    engine.finish(stream);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  return event_call(event, [&](Engine&) {
    return stream_call(handle, [&](Engine& engine, Stream* stream) { return engine.wait(stream, *event); });
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return runtime_call([&](Engine& engine) {
    if (!event || flags > 7) return cudaErrorInvalidValue;
    *event = engine.create_event(!(flags & cudaEventDisableTiming));
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return event_call(event, [&](Engine& engine) {
    engine.destroy_event(event);
    return cudaSuccess;
  });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  return event_call(event, [&](Engine&) {
    return stream_call(handle, [&](Engine& engine, Stream* stream) { return engine.record(stream, *event); });
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event_call(event, [&](Engine& engine) {
    if (event->state->capture) return cudaErrorCapturedEvent;
    engine.finish(*event->state, event->state->recorded);
    return cudaSuccess;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event_call(event, [&](Engine& engine) {
    if (event->state->capture) return cudaErrorCapturedEvent;
    if (event->state->completed < event->state->recorded) engine.run_towards(*event->state);
    if (event->state->completed < event->state->recorded) return cudaErrorNotReady;
    engine.finish(*event->state, event->state->recorded);
    return cudaSuccess;
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return event_call(start, [&](Engine& engine) {
    if (!end || !engine.alive(end) || !start->timed || !end->timed) return cudaErrorInvalidResourceHandle;
    for (const Event* event : {start, end}) {
      if (event->state->recorded == 0) return cudaErrorInvalidResourceHandle;
      if (event->state->completed < event->state->recorded) return cudaErrorNotReady;
    }
    *milliseconds = static_cast<float>(1e3 * (end->state->time - start->state->time));
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    return engine.submit(stream, {"host function",
                                  [=] {
                                    function(data);
                                    return emulation::Fault{};
                                  },
                                  {}});
  });
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) { return engine.begin_capture(stream); });
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return stream_call(handle,
                     [&](Engine& engine, Stream* stream) { return engine.end_capture(stream, graph); });
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return stream_call(handle, [&](Engine&, Stream* stream) {
    *status = !stream->capture           ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return runtime_call([&](Engine&) {
    if (!exec || !graph) return cudaErrorInvalidValue;
    ++emulation::statistics().graphs_made;
    *exec = new emulation::GraphExec{std::make_shared<emulation::Graph>(*graph)};
    return cudaSuccess;
  });
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  return runtime_call([&](Engine&) {
    if (!graph || !count || nodes) return cudaErrorInvalidValue;  // the count alone is modelled
    *count = graph->nodes.size();
    return cudaSuccess;
  });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  return stream_call(handle, [&](Engine& engine, Stream* stream) {
    if (!exec) return cudaErrorInvalidValue;
    return engine.submit(stream, {"graph",
                                  [&engine, stream, graph = exec->graph] {
                                    ++emulation::statistics().graphs_run;
                                    engine.run_graph(*stream, *graph);
                                    return emulation::Fault{};
                                  },
                                  {}});
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return runtime_call([&](Engine&) {
    delete exec;
    return cudaSuccess;
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return runtime_call([&](Engine&) {
    delete graph;
    return cudaSuccess;
  });
}

}  // namespace sonde::emulated
