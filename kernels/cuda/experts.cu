// The router of a mixture of experts (arXiv:2401.04088), p = softmax(logits), the k largest and, where asked,
// p / sum of the chosen; and the way back from an expert's rows, y[i] += w x.
//
// Ladder: a thread per token -> a warp per token, k rounds of a maximum over the warp. Bytes at least: 4 X a
// token read and 8 k written, once; scatter 12 a value. FLOPs: 4 X + 2 k X a token: bound by latency, small
// beside the experts' products.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

// The larger probability, of equals the lower expert, as one number: bits of a float that isn't negative keep
// its order.
GPU_DEV unsigned long long ranked(float p, int expert) {
  return static_cast<unsigned long long>(__float_as_uint(p)) << 32 |
         (0xffffffffu - static_cast<unsigned>(expert));
}

// A warp per token; its probabilities in shared memory, X floats. k rounds of a maximum over the warp.
__global__ void route_rows(Rows weights, Rows indices, Rows logits, std::int64_t tokens, int experts, int k,
                           bool renormalise) {
  GPU_DYN_SMEM(memory);
  float* p = reinterpret_cast<float*>(memory);
  const int lane = static_cast<int>(threadIdx.x);
  for (std::int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    const float* row = logits.row(t);
    float largest = -INFINITY;
    for (int e = lane; e < experts; e += 32) largest = fmaxf(largest, row[e]);
    largest = warp_reduce(largest, MaxOf{});
    float sum = 0;
    for (int e = lane; e < experts; e += 32) {
      p[e] = expf(row[e] - largest);
      sum += p[e];
    }
    sum = warp_reduce(sum, SumOf{});
    for (int e = lane; e < experts; e += 32) p[e] = p[e] / sum;
    float chosen = 0;
    for (int i = 0; i < k; ++i) {
      unsigned long long best = 0;
      for (int e = lane; e < experts; e += 32)
        if (p[e] >= 0) best = MaxOf{}(best, ranked(p[e], e));
      best = warp_reduce(best, MaxOf{});
      const int expert = static_cast<int>(0xffffffffu - static_cast<unsigned>(best));
      const float weight = __uint_as_float(static_cast<unsigned>(best >> 32));
      chosen += weight;
      if (expert % 32 == lane) {  // the lane that looks at this expert
        p[expert] = -1;
        weights.row(t)[i] = weight;
        indices.row(t)[i] = static_cast<float>(expert);
      }
    }
    __syncwarp();
    if (renormalise)
      for (int i = lane; i < k; i += 32) weights.row(t)[i] = weights.row(t)[i] / chosen;
    __syncwarp();
  }
}

struct AddWeighted {
  const float* weights;
  GPU_DEV float operator()(std::int64_t row, float y, float x) const { return fmaf(weights[row], x, y); }
};

}  // namespace

void GpuBackend::do_route(Tensor weights, Tensor indices, Tensor logits, Renormalise renormalise) {
  const auto experts = static_cast<int>(logits.dim(1)), k = static_cast<int>(weights.dim(1));
  launch("route", route_rows, dim3(static_cast<unsigned>(std::min<std::int64_t>(logits.rows(), 1 << 20))),
         dim3(32), static_cast<std::size_t>(experts) * sizeof(float), stream_, rows_of(weights),
         rows_of(indices), rows_of(logits), logits.rows(), experts, k, renormalise == Renormalise::yes);
}

void GpuBackend::do_scatter_add_rows(Tensor y, std::span<const std::int32_t> rows, Tensor x,
                                     std::span<const float> weights) {
  const Rows chosen = rows_of(y, lists_.get(rows));
  map("scatter_add_rows", stream_, chosen, chosen, rows_of(x), x.rows(), x.width(),
      AddWeighted{lists_.get(weights)});
}

}  // namespace sonde::SONDE_GPU
