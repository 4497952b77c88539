// Sums a + b, factors c x and soft-caps c tanh(x / c) (arXiv:2408.00118) over whole tensors.
//
// Ladder: rows.cuh's. Bytes at least: each operand once, 4 a value; 1 to 10 FLOPs a value: memory-bound.
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

struct Zero {
  GPU_DEV float operator()(std::int64_t, float, float) const { return 0; }
};
struct Add {
  GPU_DEV float operator()(std::int64_t, float a, float b) const { return a + b; }
};
struct Scale {
  float factor;
  GPU_DEV float operator()(std::int64_t, float x, float) const { return x * factor; }
};
struct Softcap {
  float cap;
  GPU_DEV float operator()(std::int64_t, float x, float) const { return cap * tanhf(x / cap); }
};

}  // namespace

void GpuBackend::do_zero(Tensor y) { fill("zero", stream_, rows_of(y), y.rows(), y.width(), Zero{}); }

void GpuBackend::do_add(Tensor y, Tensor a, Tensor b) {
  map("add", stream_, rows_of(y), rows_of(a), rows_of(b), y.rows(), y.width(), Add{});
}

void GpuBackend::do_scale(Tensor y, Tensor x, float factor) {
  map("scale", stream_, rows_of(y), rows_of(x), y.rows(), y.width(), Scale{factor});
}

void GpuBackend::do_softcap(Tensor y, Tensor x, float cap) {
  map("softcap", stream_, rows_of(y), rows_of(x), y.rows(), y.width(), Softcap{cap});
}

}  // namespace sonde::SONDE_GPU
