// Where a thread's time goes: at every moment it is in exactly one phase, the innermost PhaseScope's, so the
// phases' seconds add up to the wall clock. Two readings of the clock a scope; nothing else changes.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sonde {

enum class Phase : std::uint8_t {
  other,          // options, tokenizer, plan
  load,           // weights read, checked, packed
  gemm,           // linear layers
  attention,      // scores, softmax, values
  rows,           // the rest of the forward: norms, rotations, activations, sums
  communication,  // collectives, the wait for slower ranks included
  capture,        // rows gathered, summed, narrowed into the store's buffers
  io,             // waiting for the disk; files opened, committed, completed
  idle,           // at barriers
};
inline constexpr int kPhases = static_cast<int>(Phase::idle) + 1;
std::string_view name(Phase phase);

using PhaseSeconds = std::array<double, kPhases>;
PhaseSeconds phase_seconds();  // of this thread, since its first scope or call

class PhaseScope {
 public:
  explicit PhaseScope(Phase phase);
  ~PhaseScope();
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Phase outer_;
};

}  // namespace sonde
