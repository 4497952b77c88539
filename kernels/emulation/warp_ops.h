// Shuffles, votes and reductions of a warp (CUDA C++ Programming Guide, "Warp ... Functions").
#pragma once

#include <algorithm>
#include <new>

#include "kernels/emulation/collective.h"
#include "kernels/emulation/error_codes.h"

namespace sonde::emulated {

using emulation::Source;

inline void __syncwarp(std::uint32_t mask = ~0u, Source where = Source::here()) {
  emulation::collective<int>(
      mask, "__syncwarp", 0, where, [](auto) {}, emulation::Memory::ordered);
}

// Each lane takes `value` of lane `source`; a lane that doesn't take part has no value to give.
template <class T>
T shuffle_from(std::uint32_t mask, const char* op, T value, unsigned source, Source where) {
  struct In {
    T value;
    unsigned source;
  };
  return emulation::collective<T>(mask, op, In{value, source}, where, [&](auto lanes) {
    lanes.each([&](unsigned i) {
      const unsigned from = lanes.in(i).source;
      if (lanes.mask >> from & 1) {
        lanes.out(i) = lanes.in(from).value;
      } else if (emulation::config().strict) {
        emulation::raise_fault(emulation::kErrorLaunchFailure, where,
                               "a shuffle reads a lane that is not in its mask");
      } else {
        lanes.out(i) = lanes.in(i).value;
      }
    });
  });
}
template <class T>
T __shfl_sync(std::uint32_t mask, T value, int source, int width = 32, Source where = Source::here()) {
  const unsigned lane = emulation::block->fiber->lane, low = width - 1;
  return shuffle_from(mask, "__shfl_sync", value, (lane & ~low) | (source & low), where);
}
template <class T>
T __shfl_xor_sync(std::uint32_t mask, T value, int lanes, int width = 32, Source where = Source::here()) {
  const unsigned lane = emulation::block->fiber->lane, low = width - 1, from = lane ^ lanes;
  return shuffle_from(mask, "__shfl_xor_sync", value, (from & ~low) > (lane & ~low) ? lane : from, where);
}
template <class T>
T __shfl_down_sync(std::uint32_t mask, T value, unsigned by, int width = 32, Source where = Source::here()) {
  const unsigned lane = emulation::block->fiber->lane, low = width - 1;
  return shuffle_from(mask, "__shfl_down_sync", value, (lane & low) + by > low ? lane : lane + by, where);
}
template <class T>
T __shfl_up_sync(std::uint32_t mask, T value, unsigned by, int width = 32, Source where = Source::here()) {
  const unsigned lane = emulation::block->fiber->lane, low = width - 1;
  return shuffle_from(mask, "__shfl_up_sync", value, (lane & low) < by ? lane : lane - by, where);
}

// f over all lanes' values, in the order of lanes, given to each.
template <class Out, class In, class F>
Out fold_lanes(std::uint32_t mask, const char* op, In value, Source where, F&& f) {
  return emulation::collective<Out>(mask, op, value, where, [&](auto lanes) {
    const Out result = f(lanes);
    lanes.each([&](unsigned i) { lanes.out(i) = result; });
  });
}
inline std::uint32_t ballot(std::uint32_t mask, const char* op, int predicate, Source where) {
  return fold_lanes<std::uint32_t>(mask, op, predicate, where, [](auto lanes) {
    std::uint32_t bits = 0;
    lanes.each([&](unsigned i) { bits |= std::uint32_t{lanes.in(i) != 0} << i; });
    return bits;
  });
}
inline std::uint32_t __ballot_sync(std::uint32_t mask, int predicate, Source where = Source::here()) {
  return ballot(mask, "__ballot_sync", predicate, where);
}
inline int __any_sync(std::uint32_t mask, int predicate, Source where = Source::here()) {
  return ballot(mask, "__any_sync", predicate, where) != 0;
}
inline int __all_sync(std::uint32_t mask, int predicate, Source where = Source::here()) {
  return ballot(mask, "__all_sync", !predicate, where) == 0;
}
inline std::uint32_t __activemask() {  // lanes that have not ended; the hardware's may be any subset of those
  return emulation::block->warps[emulation::block->fiber->warp].live;
}

template <class T, class F>
T reduce_lanes(std::uint32_t mask, const char* op, T value, Source where, F f) {
  return fold_lanes<T>(mask, op, value, where, [f](auto lanes) {
    const auto first = static_cast<unsigned>(std::countr_zero(lanes.mask));
    T sum = lanes.in(first);
    emulation::for_lanes(lanes.mask & (lanes.mask - 1), [&](unsigned i) { sum = f(sum, lanes.in(i)); });
    return sum;
  });
}
// redux.sync: 32-bit integers only.
#define SONDE_REDUCE(name, T, expression)                                                                \
  inline T name(std::uint32_t mask, T value, Source where = Source::here()) {                            \
    return reduce_lanes(mask, #name, value, where, [](T a, T b) { return static_cast<T>(expression); }); \
  }
SONDE_REDUCE(__reduce_add_sync, unsigned, a + b)
SONDE_REDUCE(__reduce_min_sync, unsigned, std::min(a, b))
SONDE_REDUCE(__reduce_max_sync, unsigned, std::max(a, b))
SONDE_REDUCE(__reduce_and_sync, unsigned, a& b)
SONDE_REDUCE(__reduce_or_sync, unsigned, a | b)
SONDE_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
SONDE_REDUCE(__reduce_add_sync, int, static_cast<unsigned>(a) + static_cast<unsigned>(b))
SONDE_REDUCE(__reduce_min_sync, int, std::min(a, b))
SONDE_REDUCE(__reduce_max_sync, int, std::max(a, b))
#undef SONDE_REDUCE

}  // namespace sonde::emulated
