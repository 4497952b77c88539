// Passes over float32 features [n, D] for C targets in float64: scores f = W (x - shift) + b, log-losses with
// their gradients (scikit-learn's objectives, without the penalty), weighted sums T'(X - shift).
//
// Ladder: a block per row for scores, a thread per column over all rows for sums -> a warp takes 2 rows (4,
// with 4 targets at once), so that weights and shift are read once for them, and a thread 4 columns of 4
// targets -> slabs of 16 MiB, whose second look is L2's, and chunks of a slab as blocks of their own. Bytes
// at least: 4 n D, once; here once from memory and once from L2, and 16 D C a chunk of at least 64 rows.
// FLOPs in float64: scores and sums 2 n D C each, and n D for each look to take the shift off. Sums run in an
// order that D and C decide alone: lanes, then rows of a chunk, chunks of the slab, slabs in their slots.
#include "kernels/cuda/probe_ops.h"

#include "kernels/cuda/block.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kWarps = 4;  // of a block of scores

// Values [at, at + 4) of a row; those past its end are 0.
template <bool kFour>
GPU_DEV float4 four_of(const float* row, std::int64_t at, std::int64_t D) {
  if constexpr (kFour) {
    return load4(row + at);
  } else {
    return {row[at], at + 1 < D ? row[at + 1] : 0.0f, at + 2 < D ? row[at + 2] : 0.0f,
            at + 3 < D ? row[at + 3] : 0.0f};
  }
}
GPU_DEV float part_of(const float4& v, int k) { return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w; }

// out[i * row_step + c * target_step] = w_c . (x_i - shift) + b_c
template <int kRows, int kTargets, bool kFour>
__global__ void score_rows(double* out, std::int64_t row_step, std::int64_t target_step, Rows x,
                           const double* shift, const double* w, const double* b, std::int64_t n,
                           std::int64_t D, std::int64_t C) {
  const std::int64_t i0 = (std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kRows;
  const std::int64_t c0 = std::int64_t{blockIdx.y} * kTargets, lane = threadIdx.x % 32;
  if (i0 >= n) return;  // the whole warp
  const float* rows[kRows];
  const double* weights[kTargets];
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = x.row(i0 + r < n ? i0 + r : i0);
#pragma unroll
  for (int c = 0; c < kTargets; ++c) weights[c] = w + (c0 + c < C ? c0 + c : c0) * D;
  double sum[kRows][kTargets] = {};
  for (std::int64_t at = lane * 4; at < D; at += 32 * 4) {
    float4 v[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) v[r] = four_of<kFour>(rows[r], at, D);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (!kFour && at + k >= D) break;
      const double s = shift[at + k];
#pragma unroll
      for (int c = 0; c < kTargets; ++c) {
        const double wc = weights[c][at + k];
#pragma unroll
        for (int r = 0; r < kRows; ++r) sum[r][c] += (static_cast<double>(part_of(v[r], k)) - s) * wc;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int c = 0; c < kTargets; ++c) {
      const double all = warp_reduce(sum[r][c], SumOf{});
      if (lane == 0 && i0 + r < n && c0 + c < C)
        out[(i0 + r) * row_step + (c0 + c) * target_step] = all + b[c0 + c];
    }
}

// Values [C, slab] of scores become slopes dloss/df; losses beside them, 0 where the sign is.
__global__ void logistic_terms(double* values, double* losses, double* curvature, const std::int8_t* signs,
                               std::int64_t slab, std::int64_t n, std::int64_t C) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  for (std::int64_t c = blockIdx.y; c < C; c += gridDim.y) {
    const double s = signs[i * C + c], m = s * values[c * slab + i];
    const double e = exp(-fabs(m)), q = 1 / (1 + e);  // log(1 + exp(-m)) without overflow
    values[c * slab + i] = s == 0 ? 0.0 : -s * (m >= 0 ? e * q : q);
    losses[c * slab + i] = s == 0 ? 0.0 : fmax(-m, 0.0) + log1p(e);
    if (curvature != nullptr) curvature[i * C + c] = s == 0 ? 0.0 : e * q * q;
  }
}

// The same for one problem of C classes; a thread per row.
__global__ void softmax_terms(double* values, double* losses, double* probabilities,
                              const std::int32_t* classes, std::int64_t slab, std::int64_t n,
                              std::int64_t C) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const double mine = values[classes[i] * slab + i];
  double top = values[i], total = 0;
  for (std::int64_t c = 1; c < C; ++c) top = fmax(top, values[c * slab + i]);
  for (std::int64_t c = 0; c < C; ++c) {
    const double p = exp(values[c * slab + i] - top);
    values[c * slab + i] = p;
    total += p;
  }
  for (std::int64_t c = 0; c < C; ++c) {
    const double p = values[c * slab + i] / total;
    if (probabilities != nullptr) probabilities[i * C + c] = p;
    values[c * slab + i] = p - (classes[i] == c ? 1.0 : 0.0);
  }
  losses[i] = log(total) + top - mine;
}

// A warp per chunk and target.
__global__ void sum_values(double* partial, const double* values, std::int64_t slab, std::int64_t chunk,
                           std::int64_t n, std::int64_t C) {
  const std::int64_t slot = blockIdx.x, end = (slot + 1) * chunk < n ? (slot + 1) * chunk : n;
  for (std::int64_t c = blockIdx.y; c < C; c += gridDim.y) {
    double sum = 0;
    for (std::int64_t i = slot * chunk + threadIdx.x; i < end; i += 32) sum += values[c * slab + i];
    sum = warp_reduce(sum, SumOf{});
    if (threadIdx.x == 0) partial[slot * C + c] += sum;
  }
}

// A thread per four columns, a block per chunk: partial[slot, c, j] += sum_i t[i, c] (x_ij - shift_j), or of
// squares where there is no t.
template <int kTargets, bool kFour>
__global__ void sum_rows(double* partial, Rows x, const double* shift, const double* t, std::int64_t row_step,
                         std::int64_t target_step, std::int64_t chunk, std::int64_t n, std::int64_t D,
                         std::int64_t C) {
  const std::int64_t at = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4;
  if (at >= D) return;
  const std::int64_t slot = blockIdx.y, end = (slot + 1) * chunk < n ? (slot + 1) * chunk : n;
  const std::int64_t c0 = std::int64_t{blockIdx.z} * kTargets;
  double sum[kTargets][4] = {}, s[4];
  for (int k = 0; k < 4; ++k) s[k] = at + k < D ? shift[at + k] : 0.0;
#pragma unroll 4
  for (std::int64_t i = slot * chunk; i < end; ++i) {
    const float4 v = four_of<kFour>(x.row(i), at, D);
    double apart[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) apart[k] = static_cast<double>(part_of(v, k)) - s[k];
#pragma unroll
    for (int c = 0; c < kTargets; ++c) {
      const double weight = t == nullptr ? 0.0 : t[i * row_step + (c0 + c < C ? c0 + c : c0) * target_step];
#pragma unroll
      for (int k = 0; k < 4; ++k) sum[c][k] += (t == nullptr ? apart[k] : weight) * apart[k];
    }
  }
  for (int c = 0; c < kTargets && c0 + c < C; ++c)
    for (int k = 0; k < 4 && at + k < D; ++k) partial[(slot * C + c0 + c) * D + at + k] += sum[c][k];
}

__global__ void sum_slots(double* out, const double* partial, std::int64_t slots, std::int64_t width) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < width;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    double sum = 0;
    for (std::int64_t slot = 0; slot < slots; ++slot) sum += partial[slot * width + i];
    out[i] = sum;
  }
}

unsigned blocks_of(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}
unsigned most(std::int64_t blocks) { return static_cast<unsigned>(std::min<std::int64_t>(blocks, 65535)); }
std::int64_t count(std::span<const double> values) { return static_cast<std::int64_t>(values.size()); }

}  // namespace

// 16 MiB of features, and at most 64 MiB of values and of sums.
ProbeCut::ProbeCut(std::int64_t D, std::int64_t C) {
  slab = std::clamp<std::int64_t>(std::min((std::int64_t{4} << 20) / D, (std::int64_t{8} << 20) / C), 64,
                                  65536) /
         64 * 64;
  slots = std::clamp<std::int64_t>((std::int64_t{8} << 20) / (C * D), 1, slab / 64);
  chunk = ((slab + slots - 1) / slots + 63) / 64 * 64;
  slots = (slab + chunk - 1) / chunk;
}

GpuProbeOps::GpuProbeOps(int ordinal)
    : stream_(ordinal), memory_(std::make_shared<StreamMemory>(stream_, kDevice)), uploader_(stream_) {}

GpuProbeOps::~GpuProbeOps() { cudaStreamSynchronize(stream_); }

void GpuProbeOps::wait() { check(cudaStreamSynchronize(stream_), "waiting for the GPU"); }

std::shared_ptr<void> GpuProbeOps::hold(std::span<const float> features) {
  const auto bytes = static_cast<std::int64_t>(features.size_bytes());
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for the GPU's free memory");
  // What does not fit beside a pass's own memory is copied slab by slab, in every pass.
  if (bytes == 0 || bytes > static_cast<std::int64_t>(free / 4 * 3)) return nullptr;
  const auto held = std::make_shared<Held>(
      Held{features.data(), static_cast<std::int64_t>(features.size()), Buffer(bytes, memory_)});
  uploader_.copy(held->device.data(), reinterpret_cast<const std::byte*>(features.data()), bytes);
  held_.push_back(held);
  return {held.get(), [this](const void* dropped) {
            std::erase_if(held_, [&](const auto& one) { return one.get() == dropped; });
          }};
}

GpuProbeOps::Slab GpuProbeOps::slab_of(const FeatureRows& x, std::int64_t first, std::int64_t rows) {
  const std::int64_t n = std::min(rows, x.n() - first);
  const auto chosen = x.rows.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
  const auto [least, largest] = std::ranges::minmax(chosen);
  Slab slab{{}, first, n, false};
  for (const auto& held : held_) {
    const std::int64_t at = x.x - held->host;
    if (x.x < held->host || at + largest * x.stride + x.D > held->floats || largest - least > INT32_MAX)
      continue;
    std::vector<std::int32_t> index;
    for (const std::int64_t row : chosen) index.push_back(static_cast<std::int32_t>(row - least));
    slab.x = {reinterpret_cast<float*>(held->device.data()) + at + least * x.stride, x.stride,
              place<std::int32_t>(rows_, index)};
    break;
  }
  if (slab.x.data == nullptr) {
    float* to = room<float>(slab_, n * x.D);
    const std::int64_t row = 4 * x.D;
    uploader_.fill(reinterpret_cast<std::byte*>(to), n * row,
                   [&](std::byte* pinned, std::int64_t begin, std::int64_t bytes) {
                     while (bytes > 0) {  // [begin, begin + bytes) of the rows packed one behind the other
                       const std::int64_t i = begin / row, within = begin - i * row;
                       const std::int64_t here = std::min(bytes, row - within);
                       std::memcpy(pinned, reinterpret_cast<const std::byte*>(x.row(first + i)) + within,
                                   static_cast<std::size_t>(here));
                       pinned += here, begin += here, bytes -= here;
                     }
                   });
    slab.x = {to, x.D};
  }
  slab.four = x.D % 4 == 0 && by_float4(slab.x);
  return slab;
}

double* GpuProbeOps::zeros(Buffer& memory, std::int64_t n) {
  auto* values = room<double>(memory, n);
  check(cudaMemsetAsync(values, 0, static_cast<std::size_t>(n) * sizeof(double), stream_), "zeroing sums");
  return values;
}

void GpuProbeOps::download(std::span<double> to, const double* from) {
  if (to.empty()) return;
  check(cudaMemcpyAsync(to.data(), from, to.size_bytes(), cudaMemcpyDeviceToHost, stream_),
        "copying to the host");
}

void GpuProbeOps::scores_of(const Slab& slab, std::int64_t D, std::int64_t C, double* out,
                            std::int64_t row_step, std::int64_t target_step) {
  const auto run = [&](auto kernel, int rows, int targets) {
    launch("probe scores", kernel, dim3(blocks_of(slab.n, kWarps * rows), blocks_of(C, targets)),
           dim3(32 * kWarps), 0, stream_, out, row_step, target_step, slab.x,
           reinterpret_cast<const double*>(shift_.data()), reinterpret_cast<const double*>(w_.data()),
           reinterpret_cast<const double*>(b_.data()), slab.n, D, C);
  };
  if (C == 1)
    run(slab.four ? score_rows<2, 1, true> : score_rows<2, 1, false>, 2, 1);
  else
    run(slab.four ? score_rows<4, 4, true> : score_rows<4, 4, false>, 4, 4);
}

void GpuProbeOps::add_weighted(double* partial, const Slab& slab, const ProbeCut& cut, std::int64_t D,
                               std::int64_t C, const double* t, std::int64_t row_step,
                               std::int64_t target_step) {
  const auto run = [&](auto kernel, int targets) {
    const unsigned threads = threads_for(std::min<std::int64_t>(64, (D + 3) / 4));
    launch("probe sums", kernel,
           dim3(blocks_of(D, 4 * threads), blocks_of(slab.n, cut.chunk), blocks_of(C, targets)),
           dim3(threads), 0, stream_, partial, slab.x, reinterpret_cast<const double*>(shift_.data()), t,
           row_step, target_step, cut.chunk, slab.n, D, C);
  };
  if (C == 1)
    run(slab.four ? sum_rows<1, true> : sum_rows<1, false>, 1);
  else
    run(slab.four ? sum_rows<4, true> : sum_rows<4, false>, 4);
}

void GpuProbeOps::add_values(double* partial, const double* values, const Slab& slab, const ProbeCut& cut,
                             std::int64_t C) {
  launch("probe sums", sum_values, dim3(blocks_of(slab.n, cut.chunk), most(C)), dim3(32), 0, stream_, partial,
         values, cut.slab, cut.chunk, slab.n, C);
}

void GpuProbeOps::join_slots(std::span<double> to, const double* partial, std::int64_t slots,
                             Buffer& memory) {
  double* sums = room<double>(memory, count(to));
  launch("probe sums", sum_slots, dim3(most(blocks_of(count(to), 128))), dim3(128), 0, stream_, sums, partial,
         slots, count(to));
  download(to, sums);
}

void GpuProbeOps::do_scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                            std::span<const double> b) {
  const std::int64_t C = count(b);
  const ProbeCut cut(x.D, C);
  place(shift_, x.shift), place(w_, w), place(b_, b);
  double* kept = room<double>(kept_, std::min(cut.slab, x.n()) * C);
  for_slabs(x, cut.slab, [&](const Slab& slab) {
    scores_of(slab, x.D, C, kept, C, 1);
    download(scores.subspan(static_cast<std::size_t>(slab.first * C), static_cast<std::size_t>(slab.n * C)),
             kept);
  });
  wait();
}

void GpuProbeOps::do_logistic(std::span<double> loss, std::span<double> gradient_w,
                              std::span<double> gradient_b, const FeatureRows& x, std::span<const double> w,
                              std::span<const double> b, std::span<const std::int8_t> signs,
                              std::span<double> curvature) {
  const std::int64_t C = count(b);
  const ProbeCut cut(x.D, C);
  place(shift_, x.shift), place(w_, w), place(b_, b);
  double *values = room<double>(values_, cut.slab * C), *losses = room<double>(losses_, cut.slab * C);
  double* kept = curvature.empty() ? nullptr : room<double>(kept_, std::min(cut.slab, x.n()) * C);
  double *partial = zeros(partial_, cut.slots * C * x.D), *partial_b = zeros(partial_b_, cut.slots * C),
         *partial_loss = zeros(partial_loss_, cut.slots * C);
  for_slabs(x, cut.slab, [&](const Slab& slab) {
    const auto first = static_cast<std::size_t>(slab.first * C), n = static_cast<std::size_t>(slab.n * C);
    scores_of(slab, x.D, C, values, 1, cut.slab);
    launch("probe logistic", logistic_terms, dim3(blocks_of(slab.n, 128), most(C)), dim3(128), 0, stream_,
           values, losses, kept, place(given_, signs.subspan(first, n)), cut.slab, slab.n, C);
    add_values(partial_loss, losses, slab, cut, C);
    add_values(partial_b, values, slab, cut, C);
    add_weighted(partial, slab, cut, x.D, C, values, 1, cut.slab);
    if (kept != nullptr) download(curvature.subspan(first, n), kept);
  });
  join_slots(gradient_w, partial, cut.slots, sums_);
  join_slots(gradient_b, partial_b, cut.slots, sums_b_);
  join_slots(loss, partial_loss, cut.slots, sums_loss_);
  wait();
}

double GpuProbeOps::do_softmax(std::span<double> gradient_w, std::span<double> gradient_b,
                               const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                               std::span<const std::int32_t> classes, std::span<double> probabilities) {
  const std::int64_t C = count(b);
  const ProbeCut cut(x.D, C);
  place(shift_, x.shift), place(w_, w), place(b_, b);
  double *values = room<double>(values_, cut.slab * C), *losses = room<double>(losses_, cut.slab);
  double* kept = probabilities.empty() ? nullptr : room<double>(kept_, std::min(cut.slab, x.n()) * C);
  double *partial = zeros(partial_, cut.slots * C * x.D), *partial_b = zeros(partial_b_, cut.slots * C),
         *partial_loss = zeros(partial_loss_, cut.slots);
  for_slabs(x, cut.slab, [&](const Slab& slab) {
    const auto first = static_cast<std::size_t>(slab.first), n = static_cast<std::size_t>(slab.n);
    scores_of(slab, x.D, C, values, 1, cut.slab);
    launch("probe softmax", softmax_terms, dim3(blocks_of(slab.n, 128)), dim3(128), 0, stream_, values,
           losses, kept, place(given_, classes.subspan(first, n)), cut.slab, slab.n, C);
    add_values(partial_loss, losses, slab, cut, 1);
    add_values(partial_b, values, slab, cut, C);
    add_weighted(partial, slab, cut, x.D, C, values, 1, cut.slab);
    if (kept != nullptr)
      download(probabilities.subspan(first * static_cast<std::size_t>(C), n * static_cast<std::size_t>(C)),
               kept);
  });
  double loss = 0;
  join_slots(gradient_w, partial, cut.slots, sums_);
  join_slots(gradient_b, partial_b, cut.slots, sums_b_);
  join_slots({&loss, 1}, partial_loss, cut.slots, sums_loss_);
  wait();
  return loss;
}

void GpuProbeOps::do_weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) {
  const std::int64_t C = count(out) / x.D;
  const ProbeCut cut(x.D, std::max<std::int64_t>(1, C));
  place(shift_, x.shift);
  double* partial = zeros(partial_, cut.slots * C * x.D);
  for_slabs(x, cut.slab, [&](const Slab& slab) {
    const auto given =
        t.subspan(static_cast<std::size_t>(slab.first * C), static_cast<std::size_t>(slab.n * C));
    add_weighted(partial, slab, cut, x.D, C, place(given_, given), C, 1);
  });
  join_slots(out, partial, cut.slots, sums_);
  wait();
}

void GpuProbeOps::do_squares(std::span<double> out, const FeatureRows& x) {
  const ProbeCut cut(x.D, 1);
  place(shift_, x.shift);
  double* partial = zeros(partial_, cut.slots * x.D);
  for_slabs(x, cut.slab, [&](const Slab& slab) { add_weighted(partial, slab, cut, x.D, 1, nullptr, 0, 0); });
  join_slots(out, partial, cut.slots, sums_);
  wait();
}

}  // namespace sonde::SONDE_GPU
