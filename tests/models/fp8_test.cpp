// Whole models with --dtype fp8: on the emulated GPU beside the CPU, which multiplies rows that were rounded
// by a search of all codes; and how far from float32 that is.
#include <gtest/gtest.h>

#include <set>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/devices.h"
#include "kernels/emulation/config.h"
#include "tests/models/activations.h"
#include "tests/models/random_specs.h"
#include "tests/oracle/e4m3.h"

namespace sonde::test {
namespace {

// The CPU's products of operands that were rounded to e4m3 before.
class RoundedOnCpu : public cpu::CpuBackend {
 public:
  RoundedOnCpu() : CpuBackend(best_cpu_path()) {}
  std::size_t weights_in_fp8() const { return rounded_.size(); }

 protected:
  std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) override {
    if (precision != Precision::fp8) return CpuBackend::do_prepare_weight(w, precision);
    auto weight = CpuBackend::do_prepare_weight(rows_of(w).view, Precision::f32);
    rounded_.insert(weight.get());
    return weight;
  }
  void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) override {
    if (rounded_.count(&w) == 0) return CpuBackend::do_linear(y, x, w, bias);
    CpuBackend::do_linear(y, rows_of(x).view, w, bias);
  }

 private:
  static OwnedTensor rows_of(Tensor x) {
    OwnedTensor copy = make_tensor(DType::f32, {x.rows(), x.width()});
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const auto row = oracle::row_in_e4m3(x.row(r), static_cast<std::size_t>(x.width()));
      for (std::int64_t c = 0; c < x.width(); ++c)
        copy.view.row(r)[c] = static_cast<float>(row[static_cast<std::size_t>(c)]);
    }
    return copy;
  }
  std::set<const Weight*> rounded_;
};

class Fp8Models : public ::testing::TestWithParam<NamedSpec> {
 protected:
  const LoadOptions options{.precision = Precision::fp8, .weights = {}, .ignored = {}, .run = {}};

  // Every site of every document of fp8 on a device beside the given forward's.
  void compare(Backend& beside, Precision precision, const std::vector<Ids>& documents, double limit,
               double limit_on_gpu) const {
    LoadOptions other = options;
    other.precision = precision;
    const Model here = Model::random(GetParam().spec, other, 7, beside);
    const auto expected = run_packed(here, beside, documents);
    for (const std::string& device : devices()) {
      const auto backend = make_backend(device);
      const Model there = Model::random(GetParam().spec, options, 7, *backend);
      const auto found = run_packed(there, *backend, documents);
      for (std::size_t d = 0; d < documents.size(); ++d)
        for (const auto& [site, captured] : expected[d]) {
          // An expert that is chosen instead of another hardly better one has quite another number.
          if (precision == Precision::f32 && site.ends_with("hook_expert_indices")) continue;
          EXPECT_LE(relative_error(found[d].at(site).values, captured.values),
                    device == "cuda" ? limit_on_gpu : limit)
              << device << ", document " << d << ", " << site;
        }
    }
  }

 private:
  static std::vector<std::string> devices() {
    std::vector<std::string> names;
    if (emulation::config().compute >= 89) names.push_back("emulated");
    const auto gpus = cuda_gpus();
    if (!gpus.empty() && gpus[0].major * 10 + gpus[0].minor >= 89) names.push_back("cuda");
    return names;
  }
};

// Documents of up to 3 tokens are attended to in float, so that the products alone round: of 3 rows, and 6.
// No value was next to the middle of two codes, where the last bit of a float decides; on a GPU some will be.
TEST_P(Fp8Models, EqualProductsOfRoundedRows) {
  for (const std::vector<Ids>& documents : {std::vector<Ids>{{5, 9, 3}}, {{1, 2, 3}, {7}, {10, 11}}}) {
    RoundedOnCpu cpu;
    compare(cpu, Precision::fp8, documents, 5e-6, 3e-2);
    EXPECT_GT(cpu.weights_in_fp8(), 0u);
  }
}

// Each product is off by some 4 %: 3 bits behind the first one are at most 6 % of a value.
TEST_P(Fp8Models, AreNotFarFromF32) {
  const auto cpu = make_cpu_backend();
  const std::vector<Ids> documents = {{1, 2, 3, 4, 5}, {7}, {10, 11, 12, 13, 14, 15, 16, 17, 18}};
  compare(*cpu, Precision::f32, documents, 0.25, 0.25);
}

INSTANTIATE_TEST_SUITE_P(Families, Fp8Models, ::testing::ValuesIn(random_specs()),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace sonde::test
