#include <utility>

#include "kernels/emulation/engine.h"
#include "kernels/emulation/runtime_shim.h"

namespace sonde::emulated {
namespace {

struct Row {
  cudaError_t error;
  const char *name, *text;
};
#define ROW(error, text) \
  { error, #error, text }
constexpr Row kRows[] = {
    ROW(cudaSuccess, "no error"),
    ROW(cudaErrorInvalidValue, "invalid argument"),
    ROW(cudaErrorMemoryAllocation, "out of memory"),
    ROW(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ROW(cudaErrorInvalidSymbol, "invalid device symbol"),
    ROW(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ROW(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ROW(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ROW(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ROW(cudaErrorInvalidDevice, "invalid device ordinal"),
    ROW(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ROW(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    ROW(cudaErrorNotReady, "device not ready"),
    ROW(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ROW(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ROW(cudaErrorAssert, "device-side assert triggered"),
    ROW(cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
    ROW(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    ROW(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    ROW(cudaErrorMisalignedAddress, "misaligned address"),
    ROW(cudaErrorLaunchFailure, "unspecified launch failure"),
    ROW(cudaErrorNotPermitted, "operation not permitted"),
    ROW(cudaErrorNotSupported, "operation not supported"),
    ROW(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ROW(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    ROW(cudaErrorStreamCaptureUnmatched, "capture was not initiated in this stream"),
    ROW(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    ROW(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    ROW(cudaErrorStreamCaptureImplicit,
        "operation would make the legacy stream depend on a capturing blocking stream"),
    ROW(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    ROW(cudaErrorUnknown, "unknown error"),
};
#undef ROW

const Row* find(cudaError_t error) {
  for (const Row& row : kRows)
    if (row.error == error) return &row;
  return nullptr;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  const Row* row = find(error);
  return row ? row->name : "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  const Row* row = find(error);
  return row ? row->text : "unrecognized error code";
}

cudaError_t cudaPeekAtLastError() {
  emulation::Engine& engine = emulation::Engine::get();
  const std::lock_guard lock(engine.mutex);
  return engine.last_error;
}
cudaError_t cudaGetLastError() {  // a kernel's error stays
  emulation::Engine& engine = emulation::Engine::get();
  const std::lock_guard lock(engine.mutex);
  return std::exchange(engine.last_error, engine.sticky());
}
const char* gpu_error_detail() { return emulation::Engine::get().detail.c_str(); }

}  // namespace sonde::emulated
