#include "kernels/emulation/collective.h"

#include "kernels/emulation/error_codes.h"
#include "runtime/error.h"

namespace sonde::emulation {

Collective& join_collective(std::uint32_t mask, const char* op, Source where) {
  const Fiber& fiber = *block->fiber;
  if (!(mask >> fiber.lane & 1))
    raise_fault(kErrorLaunchFailure, where,
                fmt::format("{}: lane {} is not in its mask {:08x}", op, fiber.lane, mask));
  Collective* free = nullptr;
  for (Collective& c : block->warps[fiber.warp].collectives) {
    if (!c.arrived) {
      free = &c;
      continue;
    }
    if (!(c.mask & mask)) continue;
    const bool same = c.mask == mask && std::strcmp(c.op, op) == 0;
    if (!same || (config().strict && c.where != where))
      raise_fault(
          kErrorLaunchFailure, where,
          fmt::format(
              "warp divergence: this lane is at {} with mask {:08x}, others at {} with mask {:08x} in "
              "{}:{}",
              op, mask, c.op, c.mask, c.where.file, c.where.line));
    return c;
  }
  if (!free)
    raise_fault(kErrorLaunchFailure, where, fmt::format("{}: more than four masks wait in one warp", op));
  *free = {mask, 0, op, where};
  return *free;
}

bool arrive_at_collective(Collective& c) {
  const Fiber& fiber = *block->fiber;
  const Warp& warp = block->warps[fiber.warp];
  c.arrived |= 1u << fiber.lane;
  const std::uint32_t ended = c.mask & warp.exists & ~warp.live;
  if (ended && config().strict)
    raise_fault(kErrorLaunchFailure, c.where,
                fmt::format("{}: the mask {:08x} names lanes {:08x}, which have ended", c.op, c.mask, ended));
  return c.arrived == (c.mask & warp.live);
}

void leave_collective(Collective& c, std::uint32_t lanes, Memory memory) {
  Fiber& fiber = *block->fiber;
  c.arrived = 0;
  if (memory == Memory::ordered) ++block->warps[fiber.warp].epoch;
  block->wake(fiber.warp, lanes);
  if (config().order != Order::forward || block->chance(config().preempt)) block->yield();
}

void await_collective(const Collective& c) { block->wait(c.op, c.where); }

}  // namespace sonde::emulation
