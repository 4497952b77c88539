// Every access of a kernel: is it in memory that is there, is it ordered, and what does it cost.
#include "kernels/emulation/access.h"

#include "kernels/emulation/block.h"
#include "kernels/emulation/device_memory.h"
#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/race/race_check.h"
#include "kernels/emulation/race/source_line.h"
#include "kernels/emulation/race/traffic.h"
#include "kernels/emulation/shared_memory.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

bool in_shared_arena(const void* data) {
  return static_cast<std::size_t>(static_cast<const std::byte*>(data) - block->shared) < kSharedArena;
}

void check_bounds(const void* data, std::size_t bytes, const void* pc, bool shared) {
  const bool inside = shared ? in_shared_memory(data, bytes) : DeviceMemory::get().holds(data, bytes);
  if (inside) return;
  std::string message = fmt::format("{}: {} bytes at {}, outside of {}", source_line(pc), bytes, data,
                                    shared ? "shared memory" : "every allocation");
  raise_fault(kErrorIllegalAddress, {}, std::move(message));
}

}  // namespace

void record_access(const void* data, std::size_t bytes, Access access, const void* pc) {
  if (!block || !block->fiber || block->muted) return;
  const bool shared = in_shared_arena(data);
  if (!shared && !DeviceMemory::get().in_range(data)) return;  // the thread's own variables, constants
  ++block->muted;
  check_bounds(data, bytes, pc, shared);
  check_race(data, bytes, access, pc, shared);
  if (config().trace) count_traffic(data, bytes, access, pc, shared);
  --block->muted;
  if (block->chance(config().preempt)) block->yield();
}

void record_fence() { release_writes(); }

void accesses_of_grid_begin(const Launch& launch) {
  begin_races_of_grid();
  if (config().trace) begin_traffic_of_grid(launch);
}
void accesses_of_block_begin() { begin_races_of_block(); }
void accesses_of_block_end() {
  if (config().trace) end_traffic_of_block();
}
void record_range(const void* data, std::size_t bytes, Access access) {
  if (DeviceMemory::get().in_range(data)) check_range(data, bytes, access);
}
void forget_range(const void* data, std::size_t bytes) { forget_races(data, bytes); }
void accesses_of_work_begin() { begin_races_of_work(); }
std::string accesses_of_work_end() { return races_of_work(); }
bool accesses_are_checked() { return true; }

}  // namespace sonde::emulation
