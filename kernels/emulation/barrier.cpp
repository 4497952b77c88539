#include "kernels/emulation/barrier.h"

#include "kernels/emulation/error_codes.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

void check_arrival(const Barrier& bar, unsigned id, unsigned count, const char* op, Source where) {
  const Block& b = *block;
  if (id >= kBarriers || (id > 0 && (count == 0 || count % kWarpLanes != 0 || count > b.threads)))
    raise_fault(kErrorIllegalInstruction, where,
                fmt::format("{}: barrier {} of {} threads; expected 1 to 15, and a multiple of 32 up to {}",
                            op, id, count, b.threads));
  if (!config().strict) return;
  // Named barriers have two sides by design; __syncthreads must be one place in the source.
  if (id == 0 && bar.arrived && bar.where != where)
    raise_fault(
        kErrorLaunchFailure, where,
        fmt::format("barrier divergence: {} here, others wait in {}:{}", op, bar.where.file, bar.where.line));
  if (id == 0 && b.live != b.threads)
    raise_fault(kErrorLaunchFailure, where,
                fmt::format("{} after {} threads have ended", op, b.threads - b.live));
}

void release(Barrier& bar) {
  bar.last_any = bar.any;
  bar.last_all = bar.all;
  bar.last_count = bar.count;
  bar.arrived = 0;
  for (unsigned i = 0; i < block->warps_used; ++i) {
    block->wake(i, bar.waiting[i]);
    bar.waiting[i] = 0;
  }
}

}  // namespace

void barrier(unsigned id, unsigned count, int predicate, Arrive arrive, const char* op, Source where) {
  Block& b = *block;
  check_arrival(b.barriers[id < kBarriers ? id : 0], id, count, op, where);
  Barrier& bar = b.barriers[id];
  if (!bar.arrived) {
    bar.where = where;
    bar.any = bar.count = 0;
    bar.all = 1;
  }
  ++bar.arrived;
  bar.any |= predicate != 0;
  bar.all &= predicate != 0;
  bar.count += predicate != 0;
  const bool last = bar.arrived == (count ? count : b.live);
  if (arrive == Arrive::wait) {
    bar.waiting[b.fiber->warp] |= 1u << b.fiber->lane;
    if (last) {
      // the running fiber is ready and stays so
      release(bar);
      ++b.epoch;
      if (config().order != Order::forward || b.chance(config().preempt)) b.yield();
    } else {
      b.wait(op, where);
    }
  } else if (last) {
    release(bar);
    ++b.epoch;
  }
}

}  // namespace sonde::emulation
