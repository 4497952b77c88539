// A mixture's products, whose experts only the device knows: y[i] = w_e x[i / s], e = experts[i]
// (arXiv:2401.04088, equation 2), and the sum over a token's experts. Here few rows of an expert; many are
// expert_tiles.cu's.
//
// Ladder: the host sorts rows by expert and asks for a product each, after a wait for the router -> a block
// per expert and four columns finds the expert's rows by votes, in their order, and reads the weight's
// columns once for four rows of them. Where there are fewer rows than experts, a block per row instead: the
// first row of an expert works for all of them. Bytes at least: the weights of the chosen experts, once; x
// and y. FLOPs: 2 T k N K. Bound by the weights.
#include "kernels/cuda/expert_tiles.h"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/weight.h"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kMostRows = 512;  // whose list a block holds

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

// Of weights that lie on the device as one segment each, all of one type: where each is. Else empty.
std::vector<std::int32_t> addresses_of(std::span<const GpuWeight* const> weights) {
  std::vector<std::int32_t> addresses;  // two words each
  const DType stored = weights[0]->segments()[0].dtype;
  for (const GpuWeight* w : weights) {
    if (w->streamed() || w->segments().size() != 1 || w->segments()[0].dtype != stored) return {};
    const auto at = reinterpret_cast<std::uintptr_t>(w->fetch() + w->segments()[0].offset);
    addresses.push_back(static_cast<std::int32_t>(at & 0xffffffffu));
    addresses.push_back(static_cast<std::int32_t>(at >> 32));
  }
  return addresses;
}

}  // namespace

bool GpuBackend::do_linear_by_expert(Tensor y, Tensor x, Tensor experts,
                                     std::span<const Weight* const> weights, std::int64_t first) {
  std::vector<const GpuWeight*> own;
  for (const Weight* weight : weights) {
    own.push_back(dynamic_cast<const GpuWeight*>(weight));
    sonde_check(own.back() != nullptr, "a weight of another backend");
    if (own.back()->precision() != own[0]->precision()) return false;
  }
  const auto count = static_cast<std::int64_t>(weights.size());
  const DType stored = own[0]->segments()[0].dtype, dtype = dtype_of(own[0]->precision());
  const std::vector<std::int32_t> addresses = addresses_of(own);
  const bool blocks = info(stored).block_values > 1, by_row = y.dim(0) < count;
  if (y.dim(0) > (blocks ? kMostRows : std::min<std::int64_t>(kMostRows, kFewRows * count)))
    return tiles_by_expert(y, x, experts, own, first, addresses);
  if (addresses.empty() || x.dim(1) % 8 != 0 || (stored != dtype && !blocks)) return false;
  const auto* table = reinterpret_cast<const Byte* const*>(lists_.get(std::span(addresses)));
  const dim3 grid(static_cast<unsigned>((y.dim(1) + kGemvWarps - 1) / kGemvWarps),
                  static_cast<unsigned>(by_row ? y.dim(0) : count));
  const auto run = [&]<class Format>(Format) {
    launch("linear_by_expert", gemv_of_experts<Format>, grid, dim3(32 * kGemvWarps), 0, stream_, rows_of(y),
           rows_of(x), static_cast<int>(y.dim(0) / x.dim(0)), choice_of(experts, first, count), table,
           y.dim(1), x.dim(1), dtype, by_float4(rows_of(x)), by_row);
  };
  if (!blocks)
    with_operand(stored, [&]<class T>(T) { run(FourOf<T>{}); });
  else
    with_format(stored, [&](auto format) {
      if constexpr (decltype(format)::kValues > 1) run(format);
    });
  return true;
}

// Experts that lie here as operands are one launch; those of blocks are expanded, those of the host copied,
// one after the other.
bool GpuBackend::tiles_by_expert(Tensor y, Tensor x, Tensor experts,
                                 std::span<const GpuWeight* const> weights, std::int64_t first,
                                 const std::vector<std::int32_t>& addresses) {
  const auto count = static_cast<std::int64_t>(weights.size());
  const std::int64_t tokens = experts.dim(0), k = x.dim(1);
  const DType dtype = dtype_of(weights[0]->precision());
  if (bytes_of(dtype, k) % 16 != 0) return false;
  const bool copied = dtype != DType::f32 || !by_float4(rows_of(x));  // to operands that 16 bytes are read of
  if (const std::int64_t bytes = copied ? bytes_of(dtype, x.count()) : 0; operands_.bytes() < bytes)
    operands_ = allocate(bytes);
  if (copied) do_cast(operands_.tensor(dtype, {x.dim(0), k}), x);
  if (const std::int64_t bytes = 4 * words_of_lists(count, tokens); expert_lists_.bytes() < bytes)
    expert_lists_ = allocate(bytes);
  const RowsOfExperts rows = list_rows(stream_, choice_of(experts, first, count), static_cast<int>(tokens),
                                       reinterpret_cast<int*>(expert_lists_.data()));
  with_operand(dtype, [&]<class T>(T) {
    ExpertOperands<T> o{};
    o.x = copied ? reinterpret_cast<const T*>(operands_.data()) : device_data<const T>(x);
    o.x_stride = copied ? k : x.row_stride;
    o.rows_of_one_x = static_cast<int>(y.dim(0) / x.dim(0));
    o.k = k;
    const auto multiply = [&](Tensor columns, const void* weight, const RowsOfExperts& of) {
      o.y = rows_of(columns);
      o.n = columns.width();
      o.weight = static_cast<const T*>(weight);
      expert_tiles(stream_, o, of);
    };
    if (!addresses.empty() && weights[0]->segments()[0].dtype == dtype) {
      o.weights = reinterpret_cast<const T* const*>(lists_.get(std::span(addresses)));
      o.rows = y.dim(0);
      return multiply(y, nullptr, rows);
    }
    o.rows = tokens;
    for (int e = 0; e < static_cast<int>(count); ++e) {
      const GpuWeight& w = *weights[static_cast<std::size_t>(e)];
      const std::byte* all = w.fetch();
      for (std::size_t i = 0; i < w.segments().size(); ++i) {
        const GpuWeight::Segment& s = w.segments()[i];
        if (s.dtype == dtype) {
          multiply(y.slice_columns(s.first, s.rows), all + s.offset, rows.only(e));
        } else {
          for_expanded(w, i, all + s.offset, [&](std::int64_t from, std::int64_t n, const void* values) {
            multiply(y.slice_columns(s.first + from, n), values, rows.only(e));
          });
        }
      }
    }
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
