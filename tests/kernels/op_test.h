// Seeded tensors, also as column slabs of wider ones, and their float64 copies for the oracle.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cstring>
#include <random>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/devices.h"
#include "tests/kernels/staged_backend.h"
#include "tests/oracle/ops.h"

namespace sonde::test {

enum class Slab { no, yes };

// f32 with normal values; Slab::yes: rows 5 floats wider apart than the row, starting 3 floats in.
struct Random {
  Random(std::initializer_list<std::int64_t> shape, unsigned seed, Slab slab = Slab::no, double scale = 1) {
    Tensor dense(nullptr, DType::f32, shape);
    const std::int64_t stride = dense.width() + (slab == Slab::yes ? 5 : 0);
    buffer = Buffer((dense.rows() * stride + 8) * 4);
    view = dense;
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, scale);
    auto* all = reinterpret_cast<float*>(buffer.data());
    for (std::int64_t i = 0; i < dense.rows() * stride + 8; ++i) all[i] = static_cast<float>(normal(random));
    view.data = buffer.data() + (slab == Slab::yes ? 3 * 4 : 0);
    view.row_stride = stride;
  }
  operator Tensor() const { return view; }
  Buffer buffer;
  Tensor view;
};

inline oracle::Values values(const Tensor& t) {
  oracle::Values all;
  for (std::int64_t i = 0; i < t.rows(); ++i)
    for (std::int64_t j = 0; j < t.width(); ++j) all.push_back(static_cast<double>(t.row(i)[j]));
  return all;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.rows() != b.rows() || a.width() != b.width()) return false;
  for (std::int64_t i = 0; i < a.rows(); ++i)
    if (std::memcmp(a.row(i), b.row(i), static_cast<std::size_t>(a.width()) * 4) != 0) return false;
  return true;
}

struct Threads {  // for this scope
  explicit Threads(int n) : before(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before); }
  int before;
};

// The paths this CPU can run.
inline std::vector<CpuPath> paths_here() {
  std::vector<CpuPath> paths;
  for (CpuPath path : {CpuPath::generic, CpuPath::avx2, CpuPath::avx512, CpuPath::avx512_bf16})
    if (path <= best_cpu_path()) paths.push_back(path);
  return paths;
}

// Op tests run on every path of the CPU, on the emulated GPU, and on a GPU where there is one.
inline const std::vector<std::string> kOpDevices = {"generic",     "avx2",     "avx512",
                                                    "avx512_bf16", "emulated", "cuda"};

class OpTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "cuda" && cuda_gpus().empty()) GTEST_SKIP() << "no GPU: " << why_no_gpu();
    if (on_cpu() && path() > best_cpu_path()) GTEST_SKIP() << "this CPU has no " << GetParam();
  }
  bool on_cpu() const { return GetParam() != "emulated" && GetParam() != "cuda"; }
  CpuPath path() const {
    for (CpuPath path : {CpuPath::generic, CpuPath::avx2, CpuPath::avx512, CpuPath::avx512_bf16})
      if (name(path) == GetParam()) return path;
    return CpuPath::generic;
  }

 private:
  std::unique_ptr<Backend> make() const {
    if (on_cpu()) return std::make_unique<cpu::CpuBackend>(std::min(path(), best_cpu_path()));
    if (GetParam() == "cuda" && cuda_gpus().empty()) return make_cpu_backend();  // the test skips itself
    return std::make_unique<StagedBackend>(sonde::make_backend(GetParam()));
  }
  std::unique_ptr<Backend> owner_ = make();

 protected:
  Backend& backend_ = *owner_;
};

inline std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace sonde::test
