// g++ -fsanitize=thread puts a call before every access to memory. Kernels are compiled so and linked with
// these functions in place of the sanitizer's library.
#include <cstring>

#include "kernels/emulation/access.h"

namespace {

using sonde::emulation::Access;

inline void record(const volatile void* data, std::size_t bytes, Access access, const void* pc) {
  sonde::emulation::record_access(const_cast<const void*>(data), bytes, access, pc);
}

}  // namespace

#define CALLER __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define ACCESS(name, bytes)                                                                      \
  void __tsan_read##name(void* p) { record(p, bytes, Access::read, CALLER); }                    \
  void __tsan_write##name(void* p) { record(p, bytes, Access::write, CALLER); }                  \
  void __tsan_unaligned_read##name(void* p) { record(p, bytes, Access::read, CALLER); }          \
  void __tsan_unaligned_write##name(void* p) { record(p, bytes, Access::write, CALLER); }        \
  void __tsan_volatile_read##name(void* p) { record(p, bytes, Access::read, CALLER); }           \
  void __tsan_volatile_write##name(void* p) { record(p, bytes, Access::write, CALLER); }         \
  void __tsan_unaligned_volatile_read##name(void* p) { record(p, bytes, Access::read, CALLER); } \
  void __tsan_unaligned_volatile_write##name(void* p) { record(p, bytes, Access::write, CALLER); }
ACCESS(1, 1)
ACCESS(2, 2)
ACCESS(4, 4)
ACCESS(8, 8)
ACCESS(16, 16)
void __tsan_read_range(void* p, std::size_t n) { record(p, n, Access::read, CALLER); }
void __tsan_write_range(void* p, std::size_t n) { record(p, n, Access::write, CALLER); }
void* __tsan_memcpy(void* to, const void* from, std::size_t n) {
  record(from, n, Access::read, CALLER);
  record(to, n, Access::write, CALLER);
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, std::size_t n) {
  record(from, n, Access::read, CALLER);
  record(to, n, Access::write, CALLER);
  return std::memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, std::size_t n) {
  record(to, n, Access::write, CALLER);
  return std::memset(to, value, n);
}

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
#define ATOMIC(bits, T)                                                                     \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                  \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                            \
  }                                                                                         \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                               \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                               \
  }                                                                                         \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {                               \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                     \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) {                              \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) {                              \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) {                               \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) {                              \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_xor(volatile T* p, T v, int) {                              \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* c, T v, int, int) {  \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_compare_exchange_n(p, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                         \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* c, T v, int, int) {    \
    record(p, sizeof(T), Access::atomic, CALLER);                                           \
    return __atomic_compare_exchange_n(p, c, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }
ATOMIC(8, unsigned char)
ATOMIC(16, unsigned short)
ATOMIC(32, unsigned)
ATOMIC(64, unsigned long)
}
