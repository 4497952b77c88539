#include "kernels/emulation/memory_ops.h"

#include <cstring>

#include "kernels/emulation/access.h"
#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/shared_memory.h"
#include "runtime/error.h"

namespace sonde::emulated {
namespace {

using emulation::Access;
using emulation::block;
using emulation::raise_fault;

void check_aligned(const void* address, std::size_t bytes, const char* op, Source where) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes)
    raise_fault(emulation::kErrorMisalignedAddress, where,
                fmt::format("{} of {} bytes at {}", op, bytes, address));
}

// The caller's line is known to the checking builds by its address only.
template <class T>
T load(const void* from, const void* pc) {
  check_aligned(from, sizeof(T), "misaligned load", {"address of the kernel", 0});
  emulation::record_access(from, sizeof(T), Access::read, pc);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
void store(void* to, T value, const void* pc) {
  check_aligned(to, sizeof(T), "misaligned store", {"address of the kernel", 0});
  emulation::record_access(to, sizeof(T), Access::write, pc);
  std::memcpy(to, &value, sizeof value);
}

void issue_copy(void* to, const void* from, unsigned bytes, bool pred, Source where, const void* pc) {
  check_aligned(to, bytes, "misaligned cp.async", where);
  if (pred) check_aligned(from, bytes, "misaligned cp.async", where);
  if (!emulation::in_shared_memory(to, bytes))
    raise_fault(emulation::kErrorIllegalAddress, where,
                fmt::format("cp.async to {}, outside of shared memory", to));
  if (pred) emulation::record_access(from, bytes, Access::read, pc);
  emulation::record_access(to, bytes, Access::write, static_cast<const char*>(pc) + 1);
  block->fiber->copies.push_back({to, pred ? from : nullptr, bytes, block->fiber->group, where});
  if (emulation::config().poison) std::memset(to, 0xff, bytes);
}

void finish(const emulation::AsyncCopy& copy) {
  if (copy.from) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  } else {
    std::memset(copy.to, 0, copy.bytes);
  }
  emulation::record_access(copy.to, copy.bytes, Access::write, nullptr);
}

// Finishes the copies of groups before `group`.
void finish_before(int group) {
  auto& copies = block->fiber->copies;
  std::size_t kept = 0;
  for (const auto& copy : copies) {
    if (copy.group < group) {
      finish(copy);
    } else {
      copies[kept++] = copy;
    }
  }
  copies.resize(kept);
}

}  // namespace

uint4 ldg128(const void* from) { return load<uint4>(from, __builtin_return_address(0)); }
void stg128(void* to, uint4 value) { store(to, value, __builtin_return_address(0)); }
uint2 ldg64(const void* from) { return load<uint2>(from, __builtin_return_address(0)); }
void stg64(void* to, uint2 value) { store(to, value, __builtin_return_address(0)); }
uint4 lds128(const void* from) { return load<uint4>(from, __builtin_return_address(0)); }
void sts128(void* to, uint4 value) { store(to, value, __builtin_return_address(0)); }

void cp_async16(void* to, const void* from, bool pred, Source where) {
  issue_copy(to, from, 16, pred, where, __builtin_return_address(0));
}
void cp_async8(void* to, const void* from, bool pred, Source where) {
  issue_copy(to, from, 8, pred, where, __builtin_return_address(0));
}
void cp_async4(void* to, const void* from, bool pred, Source where) {
  issue_copy(to, from, 4, pred, where, __builtin_return_address(0));
}
void cp_async_commit() { ++block->fiber->group; }
void cp_async_wait_groups(int pending) { finish_before(block->fiber->group - pending); }
void cp_async_wait_all() { finish_before(block->fiber->group + 1); }

}  // namespace sonde::emulated
