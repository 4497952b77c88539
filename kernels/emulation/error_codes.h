// The values of cudaError_t that kernels end with; runtime_shim.h has the same ones under CUDA's names.
#pragma once

namespace sonde::emulation {

inline constexpr int kErrorInvalidValue = 1;
inline constexpr int kErrorIllegalAddress = 700;
inline constexpr int kErrorAssert = 710;
inline constexpr int kErrorIllegalInstruction = 715;
inline constexpr int kErrorMisalignedAddress = 716;
inline constexpr int kErrorLaunchFailure = 719;

}  // namespace sonde::emulation
