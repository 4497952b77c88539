#include "kernels/emulation/fiber_switch.h"

// System V x86-64: rbx, rbp, r12 to r15 survive a call, everything else is the caller's to save.
asm(R"(
.text
.globl sonde_switch_stack
.type sonde_switch_stack,@function
sonde_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sonde_switch_stack,.-sonde_switch_stack
)");

namespace sonde::emulation {

void* prepare_stack(std::byte* stack, std::size_t bytes, void (*entry)()) {
  auto** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr;                         // entry finds rsp at 8 modulo 16, as after a call
  *--top = reinterpret_cast<void*>(entry);  // where ret goes
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  return top;
}

}  // namespace sonde::emulation
