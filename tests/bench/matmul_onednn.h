// The nearest alternative to our GEMM: oneDNN's f32 matmul with weights in the format it likes best.
#pragma once

#include <functional>

namespace sonde::bench {

// A call multiplies y [m, n] = x [m, k] w' [n, k]. Empty where oneDNN is not installed.
std::function<void()> onednn_matmul(float* y, float* x, float* w, int m, int n, int k);

}  // namespace sonde::bench
