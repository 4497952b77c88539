// How the lanes of a warp meet: shuffles, votes, reductions, ldmatrix and mma are all one pattern.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/emulation/block.h"

namespace sonde::emulation {

enum class Memory : bool { unordered, ordered };  // whether lanes see each other's earlier writes after it

// The collective of the running fiber's warp under `mask` and `op`, opened if this lane comes first.
Collective& join_collective(std::uint32_t mask, const char* op, Source where);
// Sees to it that all expected lanes have come: true for the last one, which computes for all.
bool arrive_at_collective(Collective& c);
void leave_collective(Collective& c, std::uint32_t lanes, Memory memory);
void await_collective(const Collective& c);

template <class F>
inline void for_lanes(std::uint32_t lanes, F&& f) {
  for (; lanes; lanes &= lanes - 1) f(static_cast<unsigned>(std::countr_zero(lanes)));
}

// What lane i of a warp brought, and takes away.
template <class In, class Out>
struct Lanes {
  Warp& warp;
  std::uint32_t mask;
  const In& in(unsigned i) const { return *std::launder(reinterpret_cast<const In*>(warp.in[i])); }
  Out& out(unsigned i) const { return *reinterpret_cast<Out*>(warp.out[i]); }
  template <class F>
  void each(F&& f) const {
    for_lanes(mask, f);
  }
};

// compute(Lanes<In, Out>) runs once, when every lane of mask that has not ended has called.
template <class Out, class In, class Compute>
Out collective(std::uint32_t mask, const char* op, const In& in, Source where, Compute&& compute,
               Memory memory = Memory::unordered) {
  static_assert(sizeof(In) <= kLaneBytes && sizeof(Out) <= kLaneBytes);
  static_assert(std::is_trivially_copyable_v<In> && std::is_trivially_copyable_v<Out>);
  const Fiber& fiber = *block->fiber;
  Warp& warp = block->warps[fiber.warp];
  std::memcpy(warp.in[fiber.lane], &in, sizeof in);
  Collective& c = join_collective(mask, op, where);
  if (arrive_at_collective(c)) {
    const std::uint32_t lanes = c.arrived;
    ++block->muted;
    compute(Lanes<In, Out>{warp, lanes});
    --block->muted;
    leave_collective(c, lanes, memory);
  } else {
    await_collective(c);
  }
  Out out;
  std::memcpy(&out, warp.out[block->fiber->lane], sizeof out);
  return out;
}

}  // namespace sonde::emulation
