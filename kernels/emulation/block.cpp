#include "kernels/emulation/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "kernels/emulation/access.h"
#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/fiber_switch.h"
#include "kernels/emulation/sanitizer.h"
#include "kernels/emulation/shared_memory.h"
#include "runtime/error.h"

namespace sonde::emulation {

constinit thread_local Block* block = nullptr;

namespace {

// Switches to `to`, or to the scheduler when that is nullptr. `leaving`: never comes back.
void switch_to(Fiber* to, bool leaving = false) {
  Block& b = *block;
  Fiber* from = b.fiber;
  b.fiber = to;
  before_switch(from ? &from->fake_stack : nullptr, to ? to->stack : nullptr, leaving);
  sonde_switch_stack(from ? &from->context : &b.scheduler, to ? to->context : b.scheduler);
  after_switch(from ? &from->fake_stack : nullptr);
}

std::uint32_t lanes_below(unsigned count) { return count >= 32 ? ~0u : (1u << count) - 1; }

// One of the bits of mask, the order's next one after `after`.
unsigned pick_bit(std::uint32_t mask, unsigned after) {
  switch (config().order) {
    case Order::forward: {
      const std::uint32_t above = after >= 31 ? 0 : mask & ~lanes_below(after + 1);
      return std::countr_zero(above ? above : mask);
    }
    case Order::reverse:
      return 31 - std::countl_zero(mask);
    case Order::random:
      break;
  }
  for (auto skip = block->next_random() % std::popcount(mask); skip; --skip) mask &= mask - 1;
  return std::countr_zero(mask);
}

Fiber* pick_fiber() {
  Block& b = *block;
  if (!b.ready_warps) return nullptr;
  const Fiber* now = b.fiber;
  const bool stay = config().order == Order::forward && now && b.warps[now->warp].ready;
  const unsigned warp = stay ? now->warp : pick_bit(b.ready_warps, now ? now->warp : 31);
  const unsigned lane = pick_bit(b.warps[warp].ready, now && now->warp == warp ? now->lane : 31);
  return &b.fibers[warp * kWarpLanes + lane];
}

void retire(const Fiber& fiber) {
  Warp& warp = block->warps[fiber.warp];
  warp.ready &= ~(1u << fiber.lane);
  if (!warp.ready) block->ready_warps &= ~(1u << fiber.warp);
}

[[noreturn]] void fault_deadlock() {
  Block& b = *block;
  std::string waits;
  int shown = 0;
  const Fiber* last = nullptr;
  for (unsigned i = 0; i < b.threads && shown < 4; ++i) {
    const Fiber& fiber = b.fibers[i];
    if (fiber.done || (last && last->where == fiber.where)) continue;
    last = &fiber;
    waits += fmt::format("{}thread {} waits at {} in {}:{}", shown++ ? ", " : "", i, fiber.waits,
                         fiber.where.file, fiber.where.line);
  }
  raise_fault(kErrorLaunchFailure, last ? last->where : Source{},
              "deadlock of diverged threads: " + std::move(waits));
}

void start(Fiber& fiber) { fiber.started = true; }

// What every fiber runs. A thread that ends without having waited leaves its stack to the next new one,
// so a kernel without barriers is a loop on one warm stack.
void fiber_main() {
  after_first_switch();
  for (;;) {
    Block& b = *block;
    b.launch.kernel(b.launch.arguments);
    b.finish_thread();
    Fiber* done = b.fiber;
    Fiber* next = pick_fiber();
    if (!next && b.live) fault_deadlock();
    if (!next || next->started) switch_to(next, true);
    std::swap(next->stack, done->stack);
    start(*next);
    b.fiber = next;
  }
}

void switch_to_ready(Fiber* next) {
  if (!next->started) {
    unpoison_stack(next->stack);
    next->context = prepare_stack(next->stack, kStackBytes, fiber_main);
    start(*next);
  }
  switch_to(next);
}

}  // namespace

std::uint64_t Block::next_random() {  // xorshift64, the upper half
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  return random >> 32;
}

bool Block::chance(double probability) {
  return probability > 0 && static_cast<double>(next_random()) < probability * 0x1p32;
}

void Block::yield() {
  Fiber* next = pick_fiber();
  if (!next) fault_deadlock();
  if (next != fiber) switch_to_ready(next);
}

void Block::wait(const char* waits, Source where) {
  fiber->where = where;
  fiber->waits = waits;
  retire(*fiber);
  yield();
}

void Block::wake(unsigned warp, std::uint32_t lanes) {
  if (!lanes) return;
  warps[warp].ready |= lanes;
  ready_warps |= 1u << warp;
}

void Block::finish_thread() {
  fiber->done = true;
  if (!fiber->copies.empty())
    raise_fault(
        kErrorLaunchFailure, fiber->copies.front().where,
        fmt::format("the thread ends with {} cp.async copies that nothing waited for", fiber->copies.size()));
  Warp& warp = warps[fiber->warp];
  warp.live &= ~(1u << fiber->lane);
  --live;
  retire(*fiber);
  for (const Collective& c : warp.collectives)
    if (c.arrived && (c.mask >> fiber->lane & 1))
      raise_fault(kErrorLaunchFailure, c.where,
                  fmt::format("the thread ends while its warp waits for it at {}", c.op));
  if (barriers[0].arrived && config().strict)
    raise_fault(kErrorLaunchFailure, barriers[0].where, "the thread ends while others wait at __syncthreads");
}

void Block::run(const Launch& what, std::uint64_t block_number) {
  launch = what;
  number = block_number;
  grid = what.grid;
  size = what.block;
  index = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
           static_cast<unsigned>(number / grid.x / grid.y)};
  threads = live = size.x * size.y * size.z;
  warps_used = (threads + kWarpLanes - 1) / kWarpLanes;
  random = (config().seed + number * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull | 1;
  epoch = 0;
  muted = 0;
  fiber = nullptr;
  fault = {};
  ready_warps = lanes_below(warps_used);
  for (unsigned i = 0; i < warps_used; ++i) {
    Warp& warp = warps[i];
    warp.exists = warp.live = warp.ready = lanes_below(threads - i * kWarpLanes);
    warp.epoch = 0;
    for (Collective& c : warp.collectives) c.arrived = 0;
  }
  for (Barrier& barrier : barriers) barrier = {};
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& f = fibers[i];
    f.thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    f.started = f.done = false;
    f.copies.clear();
    f.group = 0;
    f.fake_stack = nullptr;
  }
  begin_shared_memory(*this);
  accesses_of_block_begin();
  switch_to_ready(pick_fiber());
  accesses_of_block_end();
}

void raise_fault(int code, Source where, std::string message) {
  Block& b = *block;
  const unsigned thread = b.fiber ? b.fiber->index : 0;
  b.fault = {code, fmt::format("{}:{}: block ({},{},{}) thread {}: {}", where.file, where.line, b.index.x,
                               b.index.y, b.index.z, thread, message)};
  std::string().swap(message);  // nobody destroys what this stack holds
  switch_to(nullptr, true);     // the other fibers are abandoned where they are
  __builtin_unreachable();
}

}  // namespace sonde::emulation
