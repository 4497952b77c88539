// Loads and stores that a kernel asks for by name, and cp.async, which arrives late.
#pragma once

#include <cstdint>

#include "kernels/emulation/access.h"
#include "kernels/emulation/block.h"

namespace sonde::emulated {

using emulation::Source;

// One request of 16 or 8 bytes per lane (g++ would split a struct's load); misaligned addresses are faults.
uint4 ldg128(const void* from);
void stg128(void* to, uint4 value);
uint2 ldg64(const void* from);
void stg64(void* to, uint2 value);
uint4 lds128(const void* from);
void sts128(void* to, uint4 value);

// Shared memory at `to` gets the bytes at cp_async_wait, and zeros if pred is false; until then it holds NaN.
void cp_async16(void* to, const void* from, bool pred = true, Source where = Source::here());
void cp_async8(void* to, const void* from, bool pred = true, Source where = Source::here());
void cp_async4(void* to, const void* from, bool pred = true, Source where = Source::here());
void cp_async_commit();
void cp_async_wait_groups(int pending);
template <int pending>
void cp_async_wait() {
  cp_async_wait_groups(pending);
}
void cp_async_wait_all();

template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return *from;
}
template <class T>
void __stcs(T* to, T value) {
  *to = value;
}
inline void __threadfence() { emulation::record_fence(); }
inline void __threadfence_block() {}  // a block runs on one thread of the CPU

}  // namespace sonde::emulated
