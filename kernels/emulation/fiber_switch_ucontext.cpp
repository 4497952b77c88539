// The twin of fiber_switch.cpp for other processors: the C library's contexts, 20 times slower.
#include <ucontext.h>

#include <new>

#include "kernels/emulation/fiber_switch.h"

namespace sonde::emulation {

// A context lives at the top of its own stack, or in a slot of the thread for the scheduler's.
extern "C" void sonde_switch_stack(void** save, void* load) {
  ucontext_t here;
  *save = &here;  // on the stack that stays as it is until somebody switches back
  swapcontext(&here, static_cast<ucontext_t*>(load));
}

void* prepare_stack(std::byte* stack, std::size_t bytes, void (*entry)()) {
  const std::size_t room = bytes - (sizeof(ucontext_t) + 127) / 64 * 64;
  auto* context = new (stack + room) ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = room;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

}  // namespace sonde::emulation
