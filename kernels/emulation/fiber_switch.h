// The switch from one stack to another: callee-saved registers and the stack pointer, nothing else.
#pragma once

#include <cstddef>

namespace sonde::emulation {

// Saves the running context in *save and goes on with `load`, which a switch saved or prepare_stack made.
extern "C" void sonde_switch_stack(void** save, void* load);

// A context that calls entry() on an empty stack; entry never returns.
void* prepare_stack(std::byte* stack, std::size_t bytes, void (*entry)());

}  // namespace sonde::emulation
