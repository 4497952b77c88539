// A range on a profiler's timeline (NVTX: Nsight Systems, Nsight Compute), named like the hook that it leads
// to. Where nobody listens, and in builds without CUDA's headers, it is a look at a flag.
#pragma once

#include "runtime/hook.h"

namespace sonde {

class TraceRange {
 public:
  explicit TraceRange(Site site) : open_(listens()) {
    if (open_) begin(site);
  }
  ~TraceRange() {
    if (open_) end();
  }
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;

 private:
  static bool listens();
  static void begin(Site site);
  static void end();
  bool open_;
};

}  // namespace sonde
