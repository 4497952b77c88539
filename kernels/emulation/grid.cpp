// All blocks of a launch, over the CPU's threads.
#include <omp.h>
#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>

#include "kernels/emulation/access.h"
#include "kernels/emulation/block.h"
#include "kernels/emulation/sanitizer.h"
#include "kernels/emulation/shared_memory.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

struct Unmap {
  std::size_t bytes;
  void operator()(std::byte* data) const {
    unpoison_memory(data, bytes);
    munmap(data, bytes);
  }
};
using Mapping = std::unique_ptr<std::byte, Unmap>;

Mapping map_memory(std::size_t bytes) {
  void* data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) fail("emulated device: no {} bytes of memory for a block's stacks", bytes);
  return Mapping(static_cast<std::byte*>(data), Unmap{bytes});
}

// A thread of the CPU keeps its block, with stacks that are touched only as far as kernels use them.
struct Worker {
  Mapping stacks = map_memory(kMaxThreads * kStackBytes);
  Mapping shared = map_memory(kSharedArena);
  Block block;
  Worker() {
    block.shared = shared.get();
    for (unsigned i = 0; i < kMaxThreads; ++i) {
      Fiber& fiber = block.fibers[i];
      fiber.stack = stacks.get() + i * kStackBytes;
      fiber.index = i;
      fiber.lane = i % kWarpLanes;
      fiber.warp = i / kWarpLanes;
    }
  }
};

Block& worker_block() {
  thread_local std::unique_ptr<Worker> worker;
  if (!worker) worker = std::make_unique<Worker>();
  return worker->block;
}

// The i-th block to run: in order, backwards, or every step-th one from somewhere.
class BlockOrder {
 public:
  explicit BlockOrder(std::uint64_t blocks) : blocks_(blocks) {
    if (config().order != Order::random) return;
    first_ = config().seed * 0x9e3779b97f4a7c15ull % blocks;
    step_ = (config().seed * 0xbf58476d1ce4e5b9ull >> 32) % blocks | 1;
    while (std::gcd(step_, blocks) != 1) step_ += 2;
  }
  std::uint64_t operator()(std::uint64_t i) const {
    if (config().order == Order::reverse) return blocks_ - 1 - i;
    return static_cast<std::uint64_t>((first_ + static_cast<unsigned __int128>(step_) * i) % blocks_);
  }

 private:
  std::uint64_t blocks_, first_ = 0, step_ = 1;
};

}  // namespace

Fault run_grid(const Launch& launch) {
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  const BlockOrder order(blocks);
  accesses_of_grid_begin(launch);
  std::mutex mutex;
  std::atomic<bool> stop = false;
  Fault first;
  const auto run_one = [&](std::uint64_t i) {
    Block& b = worker_block();
    Block* outer = std::exchange(block, &b);
    b.run(launch, order(i));
    block = outer;
    if (!b.fault.code) return;
    const std::lock_guard lock(mutex);
    if (!stop.exchange(true)) first = b.fault;
  };
  if (blocks == 1 || accesses_are_checked()) {
    for (std::uint64_t i = 0; i < blocks && !stop; ++i) run_one(i);
  } else {
#pragma omp parallel for schedule(dynamic, 1)
    for (std::uint64_t i = 0; i < blocks; ++i)
      if (!stop.load(std::memory_order_relaxed)) run_one(i);
  }
  return first;
}

}  // namespace sonde::emulation
