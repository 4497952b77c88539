// Probe passes on a GPU: float32 features, float64 arithmetic as on the CPU, so that a probe's numbers agree
// to the digits that summation leaves.
#pragma once

#include <vector>

#include "kernels/cuda/gpu_backend.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/probe_ops.h"

namespace sonde::SONDE_GPU {

// How a pass cuts its rows, whatever their number and wherever they lie: slabs that fit the L2 cache, so that
// the second look at a row does not go to memory; of each slab chunks whose sums add up in order.
struct ProbeCut {
  std::int64_t slab;          // rows, a multiple of 64
  std::int64_t chunk, slots;  // rows of a chunk, chunks of a slab
  ProbeCut(std::int64_t D, std::int64_t C);
};

class GpuProbeOps : public ProbeOps {
 public:
  explicit GpuProbeOps(int ordinal);
  ~GpuProbeOps() override;
  std::string path() const override { return fmt::format("{}-f64", name(kDevice)); }
  std::shared_ptr<void> hold(std::span<const float> features) override;

 private:
  // n rows of a pass on the device, from the pass's row `first` on.
  struct Slab {
    Rows x;
    std::int64_t first, n;
    bool four;  // rows can be read four values at a time
  };

  void do_scores(std::span<double> scores, const FeatureRows& x, std::span<const double> w,
                 std::span<const double> b) override;
  void do_logistic(std::span<double> loss, std::span<double> gradient_w, std::span<double> gradient_b,
                   const FeatureRows& x, std::span<const double> w, std::span<const double> b,
                   std::span<const std::int8_t> signs, std::span<double> curvature) override;
  double do_softmax(std::span<double> gradient_w, std::span<double> gradient_b, const FeatureRows& x,
                    std::span<const double> w, std::span<const double> b,
                    std::span<const std::int32_t> classes, std::span<double> probabilities) override;
  void do_weighted_sums(std::span<double> out, const FeatureRows& x, std::span<const double> t) override;
  void do_squares(std::span<double> out, const FeatureRows& x) override;
  void do_gram(std::span<double> gram, const FeatureRows& x, std::span<const double> weights) override;
  bool do_cholesky(std::span<double> a, std::int64_t N, double relative_pivot) override;
  void do_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N) override;

  // body(slab) for the rows of x, `rows` at a time: of held features where they lie, of others as copies.
  template <class Body>
  void for_slabs(const FeatureRows& x, std::int64_t rows, Body&& body) {
    for (std::int64_t first = 0; first < x.n(); first += rows) body(slab_of(x, first, rows));
  }
  Slab slab_of(const FeatureRows& x, std::int64_t first, std::int64_t rows);

  // The host's values on the device, in memory that grows.
  template <class T>
  const T* place(Buffer& memory, std::span<const T> values) {
    T* there = room<T>(memory, static_cast<std::int64_t>(values.size()));
    uploader_.copy(reinterpret_cast<std::byte*>(there), reinterpret_cast<const std::byte*>(values.data()),
                   static_cast<std::int64_t>(values.size_bytes()));
    return there;
  }
  template <class T>
  T* room(Buffer& memory, std::int64_t n) {
    const std::int64_t bytes = std::max<std::int64_t>(1, n * static_cast<std::int64_t>(sizeof(T)));
    if (memory.bytes() < bytes) memory = Buffer(bytes, memory_);
    return reinterpret_cast<T*>(memory.data());
  }
  double* zeros(Buffer& memory, std::int64_t n);
  void download(std::span<double> to, const double* from);  // done when the host has waited
  void wait();

  void scores_of(const Slab& slab, std::int64_t D, std::int64_t C, double* out, std::int64_t row_step,
                 std::int64_t target_step);  // by w_, b_, shift_
  // partial [slots, C, D] += sums of t's rows, weighted
  void add_weighted(double* partial, const Slab& slab, const ProbeCut& cut, std::int64_t D, std::int64_t C,
                    const double* t, std::int64_t row_step, std::int64_t target_step);
  // partial [slots, C] += sums of values [C, slab]
  void add_values(double* partial, const double* values, const Slab& slab, const ProbeCut& cut,
                  std::int64_t C);
  // The sums over slots, to the host.
  void join_slots(std::span<double> to, const double* partial, std::int64_t slots, Buffer& memory);

  struct Held {
    const float* host;
    std::int64_t floats;
    Buffer device;
  };

  Stream stream_;
  std::shared_ptr<DeviceMemory> memory_;
  Uploader uploader_;
  std::vector<std::shared_ptr<Held>> held_;
  Buffer slab_, rows_, shift_, w_, b_, given_;  // of the host: features, operands, what a slab is given
  Buffer values_, losses_, kept_;  // of a slab: [C, slab] slopes and losses, [slab, C] for the host
  Buffer partial_, partial_b_, partial_loss_;  // sums by slot
  Buffer sums_, sums_b_, sums_loss_, matrix_, vectors_;
};

}  // namespace sonde::SONDE_GPU
