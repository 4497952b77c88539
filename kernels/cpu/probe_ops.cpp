// Probe passes on the CPU: rows are cut into chunks whose number depends on the sizes alone, a chunk is one
// thread's, and the chunks' sums are joined in order. Eight rows at a time are read twice (scores, then
// gradient): the second time they come from the cache, so a pass reads the features from memory once.
#include "kernels/probe_ops.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/probe_kernels.h"
#include "kernels/cpu/probe_matrix.h"
#include "runtime/cpu.h"

namespace sonde {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Chunks {
  std::int64_t count, rows;
};

// `width`: doubles that one chunk sums into. At most 64 chunks, at most 64 MiB of sums (but 16 chunks
// anyway).
Chunks cut(std::int64_t n, std::int64_t width) {
  const std::int64_t most =
      std::clamp<std::int64_t>((std::int64_t{8} << 20) / std::max<std::int64_t>(width, 1), 16, 64);
  const std::int64_t rows =
      (std::max<std::int64_t>(64, (n + most - 1) / most) + kProbeRows - 1) / kProbeRows * kProbeRows;
  return {(n + rows - 1) / rows, rows};
}

// Eight row pointers from row i on; past `end` the first is repeated, and its results are not used.
struct RowGroup {
  std::array<const float*, kProbeRows> rows;
  int n;
  RowGroup(const FeatureRows& x, std::int64_t i, std::int64_t end)
      : n(static_cast<int>(std::min<std::int64_t>(kProbeRows, end - i))) {
    for (int r = 0; r < kProbeRows; ++r) rows[at(r)] = x.row(r < n ? i + r : i);
  }
};

// loss = log(1 + exp(-s f)) without overflow, and its derivatives in f.
struct LogisticTerm {
  double loss, slope, curvature;
  LogisticTerm(double f, int s) {
    const double m = s * f, e = std::exp(-std::abs(m)), q = 1 / (1 + e);
    loss = std::max(-m, 0.0) + std::log1p(e);
    slope = -s * (m >= 0 ? e * q : q);
    curvature = e * q * q;
  }
};

class CpuProbeOps final : public ProbeOps {
 public:
  explicit CpuProbeOps(CpuPath path)
      : path_(path >= CpuPath::avx512 ? CpuPath::avx512 : path),
        kernels_(path_ == CpuPath::avx512 ? probe_kernels_avx512()
                 : path_ == CpuPath::avx2 ? probe_kernels_avx2()
                                          : probe_kernels_generic()) {}

  std::string path() const override { return std::string(name(path_)); }

 private:
  // Runs `body(chunk_sums, first_row, end_row)` for every chunk, then joins the sums into `out` in chunk
  // order.
  template <class Body>
  void sum_chunks(std::span<double> out, std::int64_t n, Body&& body) {
    const auto width = static_cast<std::int64_t>(out.size());
    const Chunks chunks = cut(n, width);
    sums_.assign(at(chunks.count * width), 0.0);
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t c = 0; c < chunks.count; ++c)
      body(sums_.data() + c * width, c * chunks.rows, std::min(n, (c + 1) * chunks.rows));
#pragma omp parallel for schedule(static)
    for (std::int64_t block = 0; block < width; block += 512) {
      const std::int64_t end = std::min(width, block + 512);
      std::fill(out.begin() + block, out.begin() + end, 0.0);
      for (std::int64_t c = 0; c < chunks.count; ++c)
        for (std::int64_t j = block; j < end; ++j) out[at(j)] += sums_[at(c * width + j)];
    }
  }

  void do_scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                 std::span<const double> b) override {
    const auto C = static_cast<std::int64_t>(b.size());
    const Chunks chunks = cut(x.n(), 1);
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t c = 0; c < chunks.count; ++c) {
      const std::int64_t end = std::min(x.n(), (c + 1) * chunks.rows);
      for (std::int64_t i = c * chunks.rows; i < end; i += kProbeRows)
        score_group(scores, x, w, b, i, end, C);
    }
  }

  // scores[i.., C] of one group of rows.
  void score_group(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                   std::span<const double> b, std::int64_t i, std::int64_t end, std::int64_t C) const {
    const RowGroup group(x, i, end);
    double f[kProbeRows];
    for (std::int64_t c = 0; c < C; ++c) {
      kernels_.dots(f, group.rows.data(), x.shift.data(), w.data() + c * x.D, x.D);
      for (int r = 0; r < group.n; ++r) scores[at((i + r) * C + c)] = f[r] + b[at(c)];
    }
  }

  void do_logistic(std::span<double> loss, std::span<double> gradient_w, std::span<double> gradient_b,
                   const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                   std::span<const std::int8_t> signs, std::span<double> curvature) override {
    const auto C = static_cast<std::int64_t>(b.size());
    joined_.resize(at(C * (x.D + 2)));  // gradient_w, gradient_b, loss
    sum_chunks(joined_, x.n(), [&](double* sums, std::int64_t first, std::int64_t end) {
      double *gb = sums + C * x.D, *l = gb + C;
      for (std::int64_t i = first; i < end; i += kProbeRows) {
        const RowGroup group(x, i, end);
        for (std::int64_t c = 0; c < C; ++c) {
          double f[kProbeRows], slope[kProbeRows] = {};
          kernels_.dots(f, group.rows.data(), x.shift.data(), w.data() + c * x.D, x.D);
          for (int r = 0; r < group.n; ++r) {
            const std::int64_t place = (i + r) * C + c;
            if (!curvature.empty()) curvature[at(place)] = 0;
            if (signs[at(place)] == 0) continue;
            const LogisticTerm term(f[r] + b[at(c)], signs[at(place)]);
            if (!curvature.empty()) curvature[at(place)] = term.curvature;
            l[c] += term.loss;
            gb[c] += term.slope;
            slope[r] = term.slope;
          }
          kernels_.accumulate(sums + c * x.D, group.rows.data(), x.shift.data(), slope, x.D);
        }
      }
    });
    split_joined(gradient_w, gradient_b);
    std::copy_n(joined_.end() - C, C, loss.begin());
  }

  double do_softmax(std::span<double> gradient_w, std::span<double> gradient_b, const FeatureRows& x,
                    std::span<const double> w, std::span<const double> b,
                    std::span<const std::int32_t> classes, std::span<double> probabilities) override {
    const auto C = static_cast<std::int64_t>(b.size());
    joined_.resize(at(C * (x.D + 1) + 1));  // gradient_w, gradient_b, loss
    if (probabilities.empty()) {
      probabilities_.resize(at(x.n() * C));
      probabilities = probabilities_;
    }
    sum_chunks(joined_, x.n(), [&](double* sums, std::int64_t first, std::int64_t end) {
      double *gb = sums + C * x.D, *loss = gb + C;
      for (std::int64_t i = first; i < end; i += kProbeRows) {
        score_group(probabilities, x, w, b, i, end, C);
        const RowGroup group(x, i, end);
        for (int r = 0; r < group.n; ++r) {
          double* p = probabilities.data() + (i + r) * C;
          const double top = *std::max_element(p, p + C), mine = p[classes[at(i + r)]];
          double total = 0;
          for (std::int64_t c = 0; c < C; ++c) total += p[c] = std::exp(p[c] - top);
          for (std::int64_t c = 0; c < C; ++c) p[c] /= total;
          *loss += std::log(total) + top - mine;
        }
        for (std::int64_t c = 0; c < C; ++c) {
          double slope[kProbeRows] = {};
          for (int r = 0; r < group.n; ++r) {
            slope[r] = probabilities[at((i + r) * C + c)] - (classes[at(i + r)] == c ? 1 : 0);
            gb[c] += slope[r];
          }
          kernels_.accumulate(sums + c * x.D, group.rows.data(), x.shift.data(), slope, x.D);
        }
      }
    });
    split_joined(gradient_w, gradient_b);
    return joined_.back();
  }

  void do_weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) override {
    const std::int64_t C = static_cast<std::int64_t>(out.size()) / x.D;
    sum_chunks(out, x.n(), [&](double* sums, std::int64_t first, std::int64_t end) {
      for (std::int64_t i = first; i < end; i += kProbeRows) {
        const RowGroup group(x, i, end);
        for (std::int64_t c = 0; c < C; ++c) {
          double coefficient[kProbeRows] = {};
          for (int r = 0; r < group.n; ++r) coefficient[r] = t[at((i + r) * C + c)];
          kernels_.accumulate(sums + c * x.D, group.rows.data(), x.shift.data(), coefficient, x.D);
        }
      }
    });
  }

  void do_squares(std::span<double> out, const FeatureRows& x) override {
    sum_chunks(out, x.n(), [&](double* sums, std::int64_t first, std::int64_t end) {
      for (std::int64_t i = first; i < end; i += kProbeRows) {
        const RowGroup group(x, i, end);
        kernels_.accumulate_squares(sums, group.rows.data(), group.n, x.shift.data(), x.D);
      }
    });
  }

  void do_gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) override {
    probe_gram(kernels_, gram, x, weights, panels_);
  }
  bool do_cholesky(std::span<double> a, std::int64_t N, double relative_pivot) override {
    return probe_cholesky(kernels_, a, N, relative_pivot, panels_);
  }
  void do_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) override {
    probe_cholesky_solve(x, l, N);
  }

  void split_joined(std::span<double> gradient_w, std::span<double> gradient_b) const {
    std::copy_n(joined_.begin(), gradient_w.size(), gradient_w.begin());
    std::copy_n(joined_.begin() + static_cast<std::ptrdiff_t>(gradient_w.size()), gradient_b.size(),
                gradient_b.begin());
  }

  CpuPath path_;
  const ProbeKernels& kernels_;
  std::vector<double> sums_, joined_, probabilities_;  // scratch, kept between passes
  PanelBuffer panels_;
};

}  // namespace

std::unique_ptr<ProbeOps> make_cpu_probe_ops() { return std::make_unique<CpuProbeOps>(best_cpu_path()); }

}  // namespace sonde
