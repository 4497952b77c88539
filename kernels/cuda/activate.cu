// The MLP's activation, alone or as a gate: f(gate) * up (arXiv:2002.05202), f one of SiLU x / (1 + e^-x),
// GELU x Phi(x) exact or by tanh (arXiv:1606.08415), ReLU, its square (arXiv:2109.08668).
//
// Ladder: rows.cuh's, with f as a constant. Bytes at least: two (plain) or three values of 4 each a value of
// F; 10 to 30 FLOPs: memory-bound. expf and erfcf are within 2 units in the last place.
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

// 1 / (1 + exp(-x)) with an exponential that never overflows.
GPU_DEV float logistic(float x) {
  const float e = expf(-fabsf(x));
  return (x < 0 ? e : 1.0f) / (1 + e);
}

template <Activation kF>
GPU_DEV float activation(float x) {
  if constexpr (kF == Activation::silu) return x * logistic(x);
  if constexpr (kF == Activation::gelu) return 0.5f * x * erfcf(-0.70710678118654752f * x);
  if constexpr (kF == Activation::gelu_tanh)  // (1 + tanh u) / 2 is the logistic function of 2 u
    return x * logistic(1.5957691216057308f * fmaf(0.044715f * x * x, x, x));
  const float relu = x > 0 ? x : x * 0.0f;  // NaN stays
  return kF == Activation::relu ? relu : relu * relu;
}

template <Activation kF>
struct Plain {
  GPU_DEV float operator()(std::int64_t, float x, float) const { return activation<kF>(x); }
};
template <Activation kF>
struct Gated {
  GPU_DEV float operator()(std::int64_t, float gate, float up) const { return activation<kF>(gate) * up; }
};

// f with the activation as a constant.
template <class F>
void with(Activation activation, const F& f) {
  switch (activation) {
    case Activation::silu:
      return f(std::integral_constant<Activation, Activation::silu>{});
    case Activation::gelu:
      return f(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::gelu_tanh:
      return f(std::integral_constant<Activation, Activation::gelu_tanh>{});
    case Activation::relu:
      return f(std::integral_constant<Activation, Activation::relu>{});
    case Activation::relu_squared:
      return f(std::integral_constant<Activation, Activation::relu_squared>{});
  }
}

}  // namespace

void GpuBackend::do_activate(Activation f, Tensor y, Tensor x) {
  with(f, [&](auto kind) {
    map("activate", stream_, rows_of(y), rows_of(x), y.rows(), y.width(), Plain<decltype(kind)::value>{});
  });
}

void GpuBackend::do_activate_mul(Activation f, Tensor y, Tensor gate, Tensor up) {
  with(f, [&](auto kind) {
    map("activate_mul", stream_, rows_of(y), rows_of(gate), rows_of(up), y.rows(), y.width(),
        Gated<decltype(kind)::value>{});
  });
}

}  // namespace sonde::SONDE_GPU
