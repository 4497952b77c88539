// A mixture's products with few rows, whose experts only the device knows: y[i] = w_e x[i / s], e =
// experts[i] (arXiv:2401.04088, equation 2), and the sum over a token's experts.
//
// Ladder: the host sorts rows by expert and asks for a product each, after a wait for the router (which is
// how large batches go still, through cuBLASLt) -> a block per expert and four columns finds the expert's
// rows by votes, in their order, and reads the weight's columns once for four rows of them. Where there are
// fewer rows than experts, a block per row instead: the first row of an expert works for all of them. Bytes
// at least: the weights of the chosen experts, once; x and y. FLOPs: 2 T k N K. Bound by the weights.
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/weight.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kMostRows = static_cast<int>(Backend::kMostByExpert);

struct Choice {
  Rows experts;  // [T, k], whole numbers
  int k, rows;   // T k of y
  int first, n;  // the experts whose weights are here
  GPU_DEV int of(int row) const { return static_cast<int>(experts.row(row / k)[row % k]); }
};

// Grid: columns in fours, and rows of y (by_row) or experts.
template <class Format>
__global__ void gemv_of_experts(Rows y, Rows x, int rows_of_one_x, Choice choice, const Byte* const* weights,
                                std::int64_t n, std::int64_t k, DType dtype, bool x_aligned, bool by_row) {
  GPU_SHARED(uint4[kGemvWarps][kStagedWords<Format>], staged);
  GPU_SHARED(int[kMostRows + 1], list);  // the expert's rows, and how many
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int own = static_cast<int>(blockIdx.y);
  const int expert = by_row ? choice.of(own) : choice.first + own;
  if (warp == 0) {
    int found = 0;
    for (int first = 0; first < choice.rows; first += 32) {
      const bool its = first + lane < choice.rows && choice.of(first + lane) == expert;
      const unsigned votes = __ballot_sync(0xffffffffu, its);
      if (its) list[found + __popc(votes & ((1u << lane) - 1))] = first + lane;
      found += __popc(votes);
    }
    if (lane == 0) list[kMostRows] = found;
  }
  __syncthreads();
  const int rows = list[kMostRows];
  const std::int64_t column = std::int64_t{blockIdx.x} * kGemvWarps + warp;
  if (expert < choice.first || expert >= choice.first + choice.n || column >= n) return;  // the whole warp
  if (rows == 0 || (by_row && list[0] != own)) return;
  const Byte* w = weights[expert - choice.first];
  for (int first = 0; first < rows; first += kFewRows) {
    const int many = rows - first < kFewRows ? rows - first : kFewRows;
    float sum[kFewRows] = {};
    add_products<Format, kFewRows>(
        sum, [&](int r) { return x.row(list[first + r] / rows_of_one_x); }, many, w, n, column, k, dtype,
        x_aligned, staged[warp]);
#pragma unroll
    for (int r = 0; r < kFewRows; ++r) {
      const float all = warp_reduce(sum[r], SumOf{});
      if (lane == 0 && r < many) y.row(list[first + r])[column] = all;
    }
  }
}

// y[t] = sum_i weights[t][i] x[t k + i], over the experts that are here.
__global__ void add_up_rows_of_experts(Rows y, Rows x, Choice choice, Rows weights, std::int64_t tokens,
                                       std::int64_t width) {
  for (std::int64_t t = blockIdx.y; t < tokens; t += gridDim.y)
    for (std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; c < width;
         c += std::int64_t{gridDim.x} * blockDim.x) {
      float sum = 0;
      for (int i = 0; i < choice.k; ++i) {
        const int row = static_cast<int>(t) * choice.k + i, expert = choice.of(row);
        if (expert < 0) sum = NAN;
        if (expert >= choice.first && expert < choice.first + choice.n)
          sum = fmaf(weights.row(t)[i], x.row(row)[c], sum);
      }
      y.row(t)[c] = sum;
    }
}

Choice choice_of(const Tensor& experts, std::int64_t first, std::int64_t n) {
  return {rows_of(experts), static_cast<int>(experts.dim(1)), static_cast<int>(experts.count()),
          static_cast<int>(first), static_cast<int>(n)};
}

}  // namespace

bool GpuBackend::do_linear_by_expert(Tensor y, Tensor x, Tensor experts,
                                     std::span<const Weight* const> weights, std::int64_t first) {
  std::vector<std::int32_t> addresses;  // two words each
  const GpuWeight* like = nullptr;
  for (const Weight* weight : weights) {
    const auto* w = dynamic_cast<const GpuWeight*>(weight);
    sonde_check(w != nullptr, "a weight of another backend");
    if (w->streamed() || w->segments().size() != 1 || w->k() % 8 != 0) return false;
    if (like == nullptr) like = w;
    if (w->segments()[0].dtype != like->segments()[0].dtype || w->precision() != like->precision())
      return false;
    const auto at = reinterpret_cast<std::uintptr_t>(w->fetch() + w->segments()[0].offset);
    addresses.push_back(static_cast<std::int32_t>(at & 0xffffffffu));
    addresses.push_back(static_cast<std::int32_t>(at >> 32));
  }
  const DType stored = like->segments()[0].dtype, dtype = dtype_of(like->precision());
  if (stored != dtype && info(stored).block_values == 1) return false;
  const auto count = static_cast<std::int64_t>(weights.size());
  const auto* table = reinterpret_cast<const Byte* const*>(lists_.get(std::span(addresses)));
  const bool by_row = y.dim(0) < count;
  const dim3 grid(static_cast<unsigned>((y.dim(1) + kGemvWarps - 1) / kGemvWarps),
                  static_cast<unsigned>(by_row ? y.dim(0) : count));
  const auto run = [&]<class Format>(Format) {
    launch("linear_by_expert", gemv_of_experts<Format>, grid, dim3(32 * kGemvWarps), 0, stream_, rows_of(y),
           rows_of(x), static_cast<int>(y.dim(0) / x.dim(0)), choice_of(experts, first, count), table,
           y.dim(1), x.dim(1), dtype, by_float4(rows_of(x)), by_row);
  };
  if (stored == DType::f32)
    run(FourOf<float>{});
  else if (stored == DType::bf16)
    run(FourOf<gpu::bf16>{});
  else if (stored == DType::f16)
    run(FourOf<gpu::f16>{});
  else
    with_format(stored, [&](auto format) {
      if constexpr (decltype(format)::kValues > 1) run(format);
    });
  return true;
}

void GpuBackend::do_add_up_experts(Tensor y, Tensor x, Tensor experts, Tensor weights, std::int64_t first,
                                   std::int64_t n) {
  const unsigned threads = threads_for(y.width());
  const dim3 grid(static_cast<unsigned>(std::min<std::int64_t>((y.width() + threads - 1) / threads, 1024)),
                  grid_rows(y.rows()));
  launch("add_up_experts", add_up_rows_of_experts, grid, dim3(threads), 0, stream_, rows_of(y), rows_of(x),
         choice_of(experts, first, n), rows_of(weights), y.rows(), y.width());
}

}  // namespace sonde::SONDE_GPU
