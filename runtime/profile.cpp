#include "runtime/profile.h"

#include <chrono>
#include <utility>

namespace sonde {
namespace {

constexpr std::string_view kNames[kPhases] = {"other",         "load",    "gemm", "attention", "rows",
                                              "communication", "capture", "io",   "idle"};

struct ThreadClock {
  using Clock = std::chrono::steady_clock;
  Phase phase = Phase::other;
  Clock::time_point since = Clock::now();
  PhaseSeconds seconds{};

  void charge() {
    const auto now = Clock::now();
    seconds[static_cast<std::size_t>(phase)] += std::chrono::duration<double>(now - since).count();
    since = now;
  }
};

ThreadClock& clock() {
  thread_local ThreadClock clock;
  return clock;
}

Phase enter(Phase phase) {
  ThreadClock& c = clock();
  c.charge();
  return std::exchange(c.phase, phase);
}

}  // namespace

std::string_view name(Phase phase) { return kNames[static_cast<std::size_t>(phase)]; }

PhaseSeconds phase_seconds() {
  clock().charge();
  return clock().seconds;
}

PhaseScope::PhaseScope(Phase phase) : outer_(enter(phase)) {}
PhaseScope::~PhaseScope() { enter(outer_); }

}  // namespace sonde
