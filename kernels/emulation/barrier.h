// Barriers of a block: __syncthreads and its votes, and the 15 named ones (bar.sync, bar.arrive).
#pragma once

#include "kernels/emulation/block.h"

namespace sonde::emulation {

enum class Arrive : bool { wait, go_on };  // go_on: a producer's bar.arrive

// count: threads that the barrier waits for; 0: all of the block.
void barrier(unsigned id, unsigned count, int predicate, Arrive arrive, const char* op, Source where);

}  // namespace sonde::emulation

namespace sonde::emulated {

using emulation::Source;

inline void __syncthreads(Source where = Source::here()) {
  emulation::barrier(0, 0, 0, emulation::Arrive::wait, "__syncthreads", where);
}
inline int __syncthreads_or(int predicate, Source where = Source::here()) {
  emulation::barrier(0, 0, predicate, emulation::Arrive::wait, "__syncthreads_or", where);
  return emulation::block->barriers[0].last_any;
}
inline int __syncthreads_and(int predicate, Source where = Source::here()) {
  emulation::barrier(0, 0, predicate, emulation::Arrive::wait, "__syncthreads_and", where);
  return emulation::block->barriers[0].last_all;
}
inline int __syncthreads_count(int predicate, Source where = Source::here()) {
  emulation::barrier(0, 0, predicate, emulation::Arrive::wait, "__syncthreads_count", where);
  return emulation::block->barriers[0].last_count;
}
// id 1 to 15; count threads, a multiple of 32.
inline void named_barrier_sync(unsigned id, unsigned count, Source where = Source::here()) {
  emulation::barrier(id, count, 0, emulation::Arrive::wait, "named_barrier_sync", where);
}
inline void named_barrier_arrive(unsigned id, unsigned count, Source where = Source::here()) {
  emulation::barrier(id, count, 0, emulation::Arrive::go_on, "named_barrier_arrive", where);
}

}  // namespace sonde::emulated
