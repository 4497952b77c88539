// A block of a kernel in execution: its threads are fibers, scheduled by bit masks of lanes and warps.
// One block runs on one thread of the CPU, so everything here is its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/emulation/config.h"
#include "kernels/emulation/source.h"
#include "kernels/emulation/vector_types.h"

namespace sonde::emulation {

using emulated::dim3;
using emulated::uint3;

inline constexpr unsigned kWarpLanes = 32;
inline constexpr unsigned kMaxThreads = 1024;
inline constexpr unsigned kMaxWarps = kMaxThreads / kWarpLanes;
inline constexpr unsigned kBarriers = 16;
inline constexpr std::size_t kLaneBytes = 64;  // largest operand or result of a collective

// A cp.async that has been issued and not waited for.
struct AsyncCopy {
  void* to;
  const void* from;  // nullptr: zeros
  unsigned bytes;
  int group;
  Source where;
};

struct Fiber {
  void* context;  // where a switch goes on
  std::byte* stack;
  uint3 thread;  // threadIdx
  unsigned lane, warp, index;
  bool started, done;
  Source where;  // what it waits at
  const char* waits;
  void* fake_stack;  // AddressSanitizer's
  std::vector<AsyncCopy> copies;
  int group;  // of the next cp.async
};

// Lanes of a warp that meet in one call: each leaves its operand, the last one computes for all.
struct Collective {
  std::uint32_t mask, arrived;
  const char* op;
  Source where;
};

struct Warp {
  std::uint32_t exists, live, ready;  // lanes
  unsigned epoch;                     // of __syncwarp: what orders memory within a warp
  Collective collectives[4];          // as many divergent masks at a time
  alignas(kLaneBytes) std::byte in[kWarpLanes][kLaneBytes], out[kWarpLanes][kLaneBytes];
};

struct Barrier {
  unsigned arrived;
  std::uint32_t waiting[kMaxWarps];
  Source where;
  int any, all, count;                 // of the predicates that arrived
  int last_any, last_all, last_count;  // of the round before
};

struct SharedArray {
  const void* tag;
  std::byte* data;
};

// What went wrong in a kernel; code is a cudaError.
struct Fault {
  int code = 0;
  std::string message;
};

struct Launch {
  dim3 grid, block;
  std::size_t dynamic_bytes = 0;
  std::size_t shared_limit = 48 << 10;  // static and dynamic together
  void (*kernel)(void*) = nullptr;
  void* arguments = nullptr;
  const void* address = nullptr;  // of the kernel, by which traces name it
};

struct Block {
  // what kernels read
  Fiber* fiber = nullptr;  // the one that runs; nullptr: the scheduler
  uint3 index;
  dim3 size, grid;
  std::byte* shared;
  // scheduling
  unsigned threads, warps_used, live;
  std::uint32_t ready_warps;
  unsigned epoch;  // of __syncthreads
  std::uint64_t number, random;
  void* scheduler;  // its context
  // shared memory
  std::size_t shared_used, shared_limit, dynamic_bytes;
  std::vector<SharedArray> arrays;
  int muted;  // above 0: accesses are the emulation's own
  Launch launch;
  Fault fault;
  Fiber fibers[kMaxThreads];
  Warp warps[kMaxWarps];
  Barrier barriers[kBarriers];

  void run(const Launch& what, std::uint64_t block_number);
  void yield();                                // lets somebody else run, if anybody can
  void wait(const char* waits, Source where);  // the same, for a fiber that is not ready
  void wake(unsigned warp, std::uint32_t lanes);
  void finish_thread();
  std::uint64_t next_random();
  bool chance(double probability);
};

// The block that this thread of the CPU runs; nullptr outside kernels.
extern constinit thread_local Block* block;

// Ends the kernel with an error: the launch's, and the device's from then on.
[[noreturn]] void raise_fault(int code, Source where, std::string message);

// Runs all blocks, on all threads of the CPU.
Fault run_grid(const Launch& launch);

}  // namespace sonde::emulation
