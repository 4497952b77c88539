// log p(target) = logit - log sum exp: a float sum over a vocabulary is off by 2e-5, so it is a double's.
//
// Ladder: all of log-softmax as a T x V tensor and a gather -> a block per row, two passes, one number
// written. Bytes at least: V logits of 4 a row, and 8 written; they are read twice, the second time from L2.
// FLOPs: about 3 V a row: memory-bound.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

__global__ void log_softmax_rows(double* out, Rows logits, const std::int32_t* targets, std::int64_t rows,
                                 std::int64_t n, float factor) {
  GPU_SHARED(float[32], maxima);
  GPU_SHARED(double[32], sums);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* row = logits.row(r);
    float largest = -INFINITY;
    for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) largest = fmaxf(largest, row[c]);
    largest = block_reduce(largest, maxima, MaxOf{});
    double sum = 0;
    for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x)
      sum += static_cast<double>(expf((row[c] - largest) * factor));
    sum = block_reduce(sum, sums, SumOf{});
    if (threadIdx.x == 0)
      out[r] = (static_cast<double>(row[targets[r]]) - static_cast<double>(largest)) * factor - log(sum);
  }
}

}  // namespace

void GpuBackend::do_log_softmax_at(std::span<double> out, Tensor logits,
                                   std::span<const std::int32_t> targets, float temperature) {
  if (out.empty()) return;
  const auto bytes = static_cast<std::int64_t>(out.size_bytes());
  if (results_.bytes() < bytes) results_ = allocate(bytes);
  launch("log_softmax_at", log_softmax_rows,
         dim3(static_cast<unsigned>(std::min<std::int64_t>(logits.rows(), 1 << 20))),
         dim3(threads_for(logits.width())), 0, stream_, reinterpret_cast<double*>(results_.data()),
         rows_of(logits), lists_.get(targets), logits.rows(), logits.width(), 1 / temperature);
  check(cudaMemcpyAsync(out.data(), results_.data(), out.size_bytes(), cudaMemcpyDeviceToHost, stream_),
        "copying to the host");
  wait();
}

}  // namespace sonde::SONDE_GPU
