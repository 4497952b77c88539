// What AddressSanitizer must be told about stacks that change and memory that is not from malloc.
// In other builds all of it is empty.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SONDE_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SONDE_EMULATION_ASAN 1
#endif
#endif
#ifndef SONDE_EMULATION_ASAN
#define SONDE_EMULATION_ASAN 0
#endif

#if SONDE_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace sonde::emulation {

inline constexpr std::size_t kStackBytes = SONDE_EMULATION_ASAN ? 256 << 10 : 64 << 10;

#if SONDE_EMULATION_ASAN
struct SchedulerStack {
  void* fake;
  const void* bottom;
  std::size_t bytes;
  bool left;  // the scheduler was the last to switch
};
inline constinit thread_local SchedulerStack scheduler_stack{};

inline void before_switch(void** fake, const void* to_stack,
                          bool leaving) {  // fake: nullptr from the scheduler
  scheduler_stack.left = fake == nullptr;
  void** keep = leaving ? nullptr : fake ? fake : &scheduler_stack.fake;
  __sanitizer_start_switch_fiber(keep, to_stack ? to_stack : scheduler_stack.bottom,
                                 to_stack ? kStackBytes : scheduler_stack.bytes);
}
inline void after_switch(void** fake) {
  __sanitizer_finish_switch_fiber(fake ? *fake : scheduler_stack.fake, nullptr, nullptr);
}
inline void after_first_switch() {
  const void* bottom;
  std::size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (scheduler_stack.left) {
    scheduler_stack.bottom = bottom;
    scheduler_stack.bytes = bytes;
  }
}
inline void poison_memory(const void* data, std::size_t bytes) { __asan_poison_memory_region(data, bytes); }
inline void unpoison_memory(const void* data, std::size_t bytes) {
  __asan_unpoison_memory_region(data, bytes);
}
#else
inline void before_switch(void**, const void*, bool) {}
inline void after_switch(void**) {}
inline void after_first_switch() {}
inline void poison_memory(const void*, std::size_t) {}
inline void unpoison_memory(const void*, std::size_t) {}
#endif
inline void unpoison_stack(const void* stack) { unpoison_memory(stack, kStackBytes); }

}  // namespace sonde::emulation
