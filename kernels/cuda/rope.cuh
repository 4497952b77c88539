// A pair (a, b) turned by an angle: (a cos - b sin, b cos + a sin). One function, so that all ops that turn
// round alike.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

GPU_DEV float2 turned(float a, float b, float cosine, float sine) {
  return {fmaf(a, cosine, -(b * sine)), fmaf(b, cosine, a * sine)};
}

}  // namespace sonde::SONDE_GPU
