// The k largest values of a row and where they stand, in descending order, of equals the lower index first;
// NaN comes before all. A value and its index make one 64-bit number whose order is that one, so that all are
// distinct. The k-th is found digit by digit from the top (radix select: each pass counts the next eight bits
// of those that share the digits found so far), then those not below it are gathered and sorted.
//
// Ladder: the whole row to the host and a sort there -> k rounds of a maximum over the block -> radix select
// and a bitonic sort of the k in shared memory, a block per row; k = 1 is one maximum. Bytes at least: 4 V a
// row read and 8 k written. The row is read once a digit, mostly four times, and once to gather, from L2
// after the first. No FLOPs: memory-bound.
#include <bit>
#include <limits>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

using Rank = unsigned long long;

constexpr int kThreads = 512, kDigits = 256;
static_assert(std::has_single_bit(static_cast<unsigned>(Backend::kMostCandidates)) && kThreads >= kDigits);

GPU_DEV Rank rank_of(float x, std::int64_t index) {
  std::uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x);  // -0 is 0
  bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  if (x != x) bits = 0xffffffffu;  // NaN
  return Rank{bits} << 32 | (0xffffffffu - static_cast<std::uint32_t>(index));
}

// f(rank) of this thread's values of a row.
template <bool kFour, class F>
GPU_DEV void each_rank(const float* row, std::int64_t n, F f) {
  for (std::int64_t c = std::int64_t{threadIdx.x} * (kFour ? 4 : 1); c < n; c += kThreads * (kFour ? 4 : 1)) {
    if constexpr (kFour) {
      const float4 v = load4(row + c);
      f(rank_of(v.x, c)), f(rank_of(v.y, c + 1)), f(rank_of(v.z, c + 2)), f(rank_of(v.w, c + 3));
    } else {
      f(rank_of(row[c], c));
    }
  }
}

template <bool kFour>
__global__ void largest_of_rows(Rank* out, Rows x, std::int64_t rows, std::int64_t n) {
  GPU_SHARED(Rank[32], shared);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    Rank best = 0;
    each_rank<kFour>(x.row(r), n, [&](Rank rank) { best = MaxOf{}(best, rank); });
    best = block_reduce(best, shared, MaxOf{});
    if (threadIdx.x == 0) out[r] = best;
  }
}

// What a select knows: the k-th rank has `prefix` above `shift`, and `left` of those with that prefix are in.
struct Found {
  Rank prefix;
  int shift, left;
  bool all;  // that have the prefix
};

// The k-th largest of a row: ranks with prefix below found.shift or higher are the k largest.
template <bool kFour>
GPU_DEV Found select(const float* row, std::int64_t n, int k, unsigned* counts, Found* shared) {
  const int thread = static_cast<int>(threadIdx.x);
  Found found{0, 64, k, false};
  for (int shift = 56; shift >= 0 && !found.all; shift -= 8) {
    if (thread < kDigits) counts[thread] = 0;
    __syncthreads();
    each_rank<kFour>(row, n, [&](Rank rank) {
      if (shift == 56 || rank >> (shift + 8) == found.prefix)
        atomicAdd(&counts[rank >> shift & (kDigits - 1)], 1u);
    });
    __syncthreads();
    if (thread < 32) {  // a lane has eight digits, the highest lane the highest
      const uint4 low = lds128(counts + thread * 8), high = lds128(counts + thread * 8 + 4);
      const unsigned of_digit[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      unsigned mine = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) mine += of_digit[i];
      unsigned above = 0, sum = mine;  // counts of the lanes above
      for (int by = 1; by < 32; by *= 2) {
        const unsigned other = __shfl_down_sync(0xffffffffu, sum, static_cast<unsigned>(by));
        if (thread + by < 32) sum += other;
      }
      above = sum - mine;
      const auto wanted = static_cast<unsigned>(found.left);
#pragma unroll
      for (int i = 7; i >= 0; --i) {
        if (above < wanted && wanted <= above + of_digit[i])
          *shared = {found.prefix << 8 | static_cast<unsigned>(thread * 8 + i), shift,
                     static_cast<int>(wanted - above), shift == 0 || wanted - above == of_digit[i]};
        above += of_digit[i];
      }
    }
    __syncthreads();
    found = *shared;
    __syncthreads();  // before another pass writes it
  }
  return found;
}

// Descending; `padded` is a power of two.
GPU_DEV void sort(Rank* list, int padded) {
  for (int run = 2; run <= padded; run *= 2)
    for (int apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < padded / 2; i += kThreads) {
        const int low = i / apart * 2 * apart + i % apart, high = low + apart;
        const Rank a = list[low], b = list[high];
        if ((low & run) == 0 ? a < b : a > b) list[low] = b, list[high] = a;
      }
    }
  __syncthreads();
}

template <bool kFour>
__global__ void top_k_of_rows(Rank* out, Rows x, std::int64_t rows, std::int64_t n, int k, int padded) {
  GPU_SHARED(uint4[kDigits / 4], digits);  // counts, for reads of 16 bytes
  unsigned* counts = reinterpret_cast<unsigned*>(digits);
  GPU_SHARED(Found, shared);
  GPU_SHARED(unsigned, gathered);
  GPU_SHARED(Rank[Backend::kMostCandidates], list);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* row = x.row(r);
    const Found found = select<kFour>(row, n, k, counts, &shared);
    if (threadIdx.x == 0) gathered = 0;
    for (int i = static_cast<int>(threadIdx.x); i < padded; i += kThreads) list[i] = 0;
    __syncthreads();
    each_rank<kFour>(row, n, [&](Rank rank) {
      if (rank >> found.shift >= found.prefix) list[atomicAdd(&gathered, 1u)] = rank;
    });
    sort(list, padded);
    for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) out[r * k + i] = list[i];
    __syncthreads();  // before the next row's list
  }
}

__global__ void penalise_values(Rows x, const std::int32_t* rows, const std::int32_t* columns, std::int64_t n,
                                double penalty) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    float& value = x.row(rows[i])[columns[i]];
    const auto wide = static_cast<double>(value);
    value = static_cast<float>(value > 0 ? wide / penalty : wide * penalty);
  }
}

Candidate candidate_of(Rank rank) {
  const auto bits = static_cast<std::uint32_t>(rank >> 32);
  const auto index = static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(rank));
  if (bits == 0xffffffffu) return {std::numeric_limits<float>::quiet_NaN(), index};
  return {std::bit_cast<float>(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits), index};
}

}  // namespace

void GpuBackend::do_top_k(std::span<Candidate> out, Tensor x, std::int64_t k) {
  const auto bytes = static_cast<std::int64_t>(out.size() * sizeof(Rank));
  if (results_.bytes() < bytes) results_ = allocate(bytes);
  auto* ranks = reinterpret_cast<Rank*>(results_.data());
  const Rows rows = rows_of(x);
  const bool four = x.width() % 4 == 0 && by_float4(rows);
  const dim3 grid(static_cast<unsigned>(std::min<std::int64_t>(x.rows(), 1 << 20))), block(kThreads);
  if (k == 1)
    launch("top_k", four ? largest_of_rows<true> : largest_of_rows<false>, grid, block, 0, stream_, ranks,
           rows, x.rows(), x.width());
  else
    launch("top_k", four ? top_k_of_rows<true> : top_k_of_rows<false>, grid, block, 0, stream_, ranks, rows,
           x.rows(), x.width(), static_cast<int>(k),
           static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(k))));
  std::vector<Rank> host(out.size());
  check(cudaMemcpyAsync(host.data(), ranks, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
        "copying to the host");
  wait();
  std::ranges::transform(host, out.begin(), candidate_of);
}

void GpuBackend::do_penalise(Tensor x, std::span<const std::int32_t> rows,
                             std::span<const std::int32_t> columns, double penalty) {
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int32_t *on_rows = lists_.get(rows), *on_columns = lists_.get(columns);
  launch("penalise", penalise_values,
         dim3(static_cast<unsigned>(std::min<std::int64_t>((n + 127) / 128, 1024))), dim3(128), 0, stream_,
         rows_of(x), on_rows, on_columns, n, penalty);
}

}  // namespace sonde::SONDE_GPU
