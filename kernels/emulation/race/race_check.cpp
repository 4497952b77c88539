#include "kernels/emulation/race/race_check.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <unordered_map>

#include "kernels/emulation/block.h"
#include "kernels/emulation/race/shadow.h"
#include "kernels/emulation/race/source_line.h"
#include "kernels/emulation/work_order.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

constexpr std::size_t kReports = 12;
constexpr std::size_t kLongestRange = 256 << 10;  // of a copy that is looked at

constexpr std::uint64_t kOneLife = ~std::uint64_t{0};  // device memory's, from allocation to allocation
std::uint64_t blocks = 0;
std::uint32_t now = 0;
std::set<std::pair<const void*, const void*>> seen;
std::string first;

// Blocks run one after the other here. What a block wrote before a fence and an atomic on some address is
// known to a block that comes to that address with an atomic later.
std::uint32_t fence_time = 0;                     // of this block; 0: none
std::map<std::uint32_t, std::uint32_t> acquired;  // block -> time, by this block
std::unordered_map<std::uintptr_t, std::map<std::uint32_t, std::uint32_t>> released;  // by address

bool ordered(const Mark& before, const Mark& me) {
  if (!before.set || (before.atomic && me.atomic)) return true;
  if (before.work != me.work) return work_order().before_now(before.work);
  if (before.block != me.block) {
    const auto known = acquired.find(before.block);
    return known != acquired.end() && before.time <= known->second;
  }
  if (before.thread == me.thread || before.barrier < me.barrier) return true;
  return before.thread / kWarpLanes == me.thread / kWarpLanes && before.warp < me.warp;
}

constexpr std::uint32_t kNoBlock = ~0u;  // a copy's

std::string place_of(const Mark& mark) { return mark.block == kNoBlock ? "its range" : source_line(mark.pc); }

void report(const Mark& before, const char* did, const Mark& me, const char* does, bool shared) {
  if (seen.size() >= kReports || !seen.insert({before.pc, me.pc}).second) return;
  const auto& moments = work_order().moments;
  const std::string text =
      before.work != me.work
          ? fmt::format(
                "a race of streams: a {} in stream {} {} at {}, a {} in stream {} {} at {}, and no event "
                "orders them",
                moments[before.work].what, moments[before.work].stream, did, place_of(before),
                moments[me.work].what, moments[me.work].stream, does, place_of(me))
          : fmt::format(
                "a race in {} memory: thread {} of block {} {} at {}, thread {} of block {} {} at {}, and "
                "nothing orders them",
                shared ? "shared" : "global", before.thread, before.block, did, place_of(before), me.thread,
                me.block, does, place_of(me));
  std::fprintf(stderr, "emulated GPU: %s\n", text.c_str());
  if (first.empty()) first = text;
}

void remember_read(Cell& cell, const Mark& me) {
  const Mark& last = cell.read;
  if (last.set && (last.thread != me.thread || last.block != me.block)) cell.other_thread = last;
  if (last.set && (last.thread / kWarpLanes != me.thread / kWarpLanes || last.block != me.block))
    cell.other_warp = last;
  cell.read = me;
}

void meet_at(std::uintptr_t address) {
  auto& there = released[address];
  for (const auto& [number, time] : there) {
    auto& mine = acquired[number];
    mine = std::max(mine, time);
  }
  if (!fence_time) return;
  for (const auto& [number, time] : acquired) there[number] = std::max(there[number], time);
  there[static_cast<std::uint32_t>(block->number)] = fence_time;
}

void mark_bytes(std::uintptr_t start, std::size_t bytes, Access access, const Mark& me, bool shared) {
  each_cell(start, bytes, shared ? blocks : kOneLife, [&](Cell& cell) {
    if (access == Access::read) {
      if (!ordered(cell.write, me)) report(cell.write, "writes", me, "reads", shared);
      return remember_read(cell, me);
    }
    if (!ordered(cell.write, me)) report(cell.write, "writes", me, "writes", shared);
    for (const Mark* read : {&cell.read, &cell.other_thread, &cell.other_warp})
      if (!ordered(*read, me)) report(*read, "reads", me, "writes", shared);
    cell.write = me;
    cell.read.set = cell.other_thread.set = cell.other_warp.set = false;
  });
}

}  // namespace

void begin_races_of_work() {
  first.clear();
  seen.clear();
}

void begin_races_of_grid() {
  now = 0;
  released.clear();
  limit_shadow();
}

void begin_races_of_block() {
  ++blocks;
  fence_time = 0;
  acquired.clear();
}

void release_writes() { fence_time = now; }

std::string races_of_work() { return first; }

void check_race(const void* data, std::size_t bytes, Access access, const void* pc, bool shared) {
  const Fiber& fiber = *block->fiber;
  const Mark me{pc,
                work_order().current(),
                static_cast<std::uint32_t>(block->number),
                ++now,
                block->epoch,
                block->warps[fiber.warp].epoch,
                static_cast<std::uint16_t>(fiber.index),
                true,
                access == Access::atomic};
  const auto start = reinterpret_cast<std::uintptr_t>(data);
  if (access == Access::atomic && !shared) meet_at(start);
  mark_bytes(start, bytes, access, me, shared);
}

void check_range(const void* data, std::size_t bytes, Access access) {
  const Mark me{nullptr, work_order().current(), kNoBlock, 0, 0, 0, 0, true, false};
  mark_bytes(reinterpret_cast<std::uintptr_t>(data), std::min(bytes, kLongestRange), access, me, false);
}

void forget_races(const void* data, std::size_t bytes) {
  forget_cells(reinterpret_cast<std::uintptr_t>(data), bytes);
}

}  // namespace sonde::emulation
