// The matmul of the cuBLASLt shim against the formula in double: types, transposes, strides, batches,
// epilogues.
#include "kernels/emulation/cublas_shim.h"

#include <cmath>
#include <random>

#include "tests/emulation/device.h"

namespace sonde::emulated {
namespace {

struct Problem {
  cudaDataType_t type = CUDA_R_32F, out = CUDA_R_32F;
  cublasOperation_t ta = CUBLAS_OP_N, tb = CUBLAS_OP_N;
  std::uint64_t m = 5, n = 7, k = 33;
  int batches = 1;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  float alpha = 1, beta = 0;
  std::uint64_t algorithm = 0;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};

std::size_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2; }

void put(cudaDataType_t type, std::vector<std::uint8_t>& bytes, std::size_t i, double& x) {
  auto f = static_cast<float>(x);
  if (type == CUDA_R_8F_E4M3) {  // 1, 1.5, -2: bits of sign, exponent and mantissa written by hand
    const std::uint8_t codes[] = {0x38, 0x3c, 0xc0};
    const double values[] = {1, 1.5, -2};
    const int which = static_cast<int>(std::fabs(x) * 100) % 3;
    bytes[i] = codes[which];
    x = values[which];
    return;
  }
  if (type == CUDA_R_16BF) {
    const auto h = __float2bfloat16_rn(f);
    std::memcpy(&bytes[2 * i], &h, 2);
    x = __bfloat162float(h);
  } else if (type == CUDA_R_16F) {
    const auto h = __float2half_rn(f);
    std::memcpy(&bytes[2 * i], &h, 2);
    x = __half2float(h);
  } else {
    std::memcpy(&bytes[4 * i], &f, 4);
    x = f;
  }
}
double get(cudaDataType_t type, const std::vector<std::uint8_t>& bytes, std::size_t i) {
  if (type == CUDA_R_32F) {
    float f;
    std::memcpy(&f, &bytes[4 * i], 4);
    return f;
  }
  std::uint16_t h;
  std::memcpy(&h, &bytes[2 * i], 2);
  return type == CUDA_R_16BF ? __bfloat162float(__ushort_as_bfloat16(h)) : __half2float(__ushort_as_half(h));
}

// A column-major matrix with rows that nobody may touch between its columns.
struct Matrix {
  cudaDataType_t type;
  std::uint64_t rows, columns, ld;
  int batches;
  std::vector<double> values;
  std::vector<std::uint8_t> bytes;
  Matrix(cudaDataType_t t, std::uint64_t r, std::uint64_t c, int b, std::mt19937& random)
      : type(t),
        rows(r),
        columns(c),
        ld(r + 3),
        batches(b),
        values(ld * c * b),
        bytes(values.size() * size_of(t)) {
    std::normal_distribution<double> normal;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = normal(random);
      put(type, bytes, i, values[i]);
    }
  }
  std::size_t at(std::uint64_t r, std::uint64_t c, int b) const { return (b * columns + c) * ld + r; }
  cublasLtMatrixLayout_t layout() const {
    cublasLtMatrixLayout_t l = nullptr;
    const auto offset = static_cast<std::int64_t>(ld * columns);
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&l, type, rows, columns, static_cast<std::int64_t>(ld)),
              CUBLAS_STATUS_SUCCESS);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof batches);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset);
    return l;
  }
};

class Cublas : public EmulatedDevice {
 protected:
  // The relative error of the result, or what the call answered.
  void check(const Problem& p, double tolerance) {
    std::mt19937 random(3);
    const bool ta = p.ta != CUBLAS_OP_N, tb = p.tb != CUBLAS_OP_N;
    Matrix a(p.type, ta ? p.k : p.m, ta ? p.m : p.k, p.batches, random);
    Matrix b(p.type, tb ? p.n : p.k, tb ? p.k : p.n, p.batches, random);
    Matrix c(p.out, p.m, p.n, p.batches, random), bias(p.out, p.m, 1, 1, random);
    DeviceArray<std::uint8_t> da(a.bytes), db(b.bytes), dc(c.bytes), dbias(bias.bytes);
    cublasLtHandle_t handle = nullptr;
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;
    ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulDescCreate(&desc, p.compute, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    const void* bias_data = dbias.data();
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &p.ta, sizeof p.ta);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &p.tb, sizeof p.tb);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &p.epilogue, sizeof p.epilogue);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias_data, sizeof bias_data);
    const auto la = a.layout(), lb = b.layout(), lc = c.layout();
    cublasLtMatmulPreferenceCreate(&preference);
    const std::uint64_t room = 1 << 20;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room,
                                         sizeof room);
    cublasLtMatmulHeuristicResult_t results[8];
    int found = 0;
    ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(handle, desc, la, lb, lc, lc, preference, 8, results, &found),
              CUBLAS_STATUS_SUCCESS);
    ASSERT_GT(found, static_cast<int>(p.algorithm));
    const auto& chosen = results[p.algorithm];
    DeviceArray<std::uint8_t> workspace(chosen.workspaceSize + 1);
    ASSERT_EQ(cublasLtMatmul(handle, desc, &p.alpha, da.data(), la, db.data(), lb, &p.beta, dc.data(), lc,
                             dc.data(), lc, &chosen.algo, workspace.data(), chosen.workspaceSize, nullptr),
              CUBLAS_STATUS_SUCCESS);
    const auto out = dc.host();
    double error = 0, size = 0;
    for (int batch = 0; batch < p.batches; ++batch)
      for (std::uint64_t j = 0; j < p.n; ++j)
        for (std::uint64_t i = 0; i < c.ld; ++i) {
          if (i >= p.m) {  // between the columns nothing changed
            ASSERT_EQ(get(p.out, out, c.at(i, j, batch)), c.values[c.at(i, j, batch)]);
            continue;
          }
          double sum = 0;
          for (std::uint64_t x = 0; x < p.k; ++x)
            sum += a.values[ta ? a.at(x, i, batch) : a.at(i, x, batch)] *
                   b.values[tb ? b.at(j, x, batch) : b.at(x, j, batch)];
          double want = p.alpha * sum + p.beta * c.values[c.at(i, j, batch)];
          if (p.epilogue & CUBLASLT_EPILOGUE_BIAS) want += bias.values[i];
          if (p.epilogue & CUBLASLT_EPILOGUE_RELU) want = std::max(want, 0.0);
          if (p.epilogue & CUBLASLT_EPILOGUE_GELU)
            want *= 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (want + 0.044715 * want * want * want)));
          const double off = get(p.out, out, c.at(i, j, batch)) - want;
          error += off * off, size += want * want;
        }
    EXPECT_LE(std::sqrt(error / size), tolerance);
    EXPECT_TRUE(error >= 0 && size > 0);
    for (const auto layout : {la, lb, lc}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(desc);
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtDestroy(handle);
  }
};

TEST_F(Cublas, Transposes) {
  for (const auto ta : {CUBLAS_OP_N, CUBLAS_OP_T})
    for (const auto tb : {CUBLAS_OP_N, CUBLAS_OP_T})
      for (const std::uint64_t size : {1, 7, 64})
        check({.ta = ta, .tb = tb, .m = size, .n = 9, .k = 3 * size}, 3e-7);
}
TEST_F(Cublas, Types) {
  check({.type = CUDA_R_16BF, .ta = CUBLAS_OP_T}, 3e-7);
  check({.type = CUDA_R_16F, .ta = CUBLAS_OP_T}, 3e-7);
  check({.type = CUDA_R_16BF, .out = CUDA_R_16BF}, 3e-3);
  check({.type = CUDA_R_16F, .out = CUDA_R_16F}, 4e-4);
  check({.compute = CUBLAS_COMPUTE_32F_FAST_TF32}, 1e-3);
  emulation::config().compute = 90;
  check({.type = CUDA_R_8F_E4M3, .ta = CUBLAS_OP_T, .m = 16, .n = 3, .k = 32}, 3e-7);
}
TEST_F(Cublas, EpiloguesBatchesAlgorithms) {
  for (const auto epilogue : {CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU_BIAS,
                              CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS})
    check({.epilogue = epilogue}, 5e-7);
  check({.batches = 3, .alpha = 0.5f, .beta = 2}, 3e-7);
  for (const std::uint64_t algorithm : {0, 1, 2}) check({.k = 100, .algorithm = algorithm}, 3e-7);
}

TEST_F(Cublas, Refusals) {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtCreate(&handle);
  cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatrixLayoutCreate(&a, CUDA_R_32F, 4, 5, 4);
  cublasLtMatrixLayoutCreate(&b, CUDA_R_32F, 6, 3, 6);  // 5 was needed
  cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, 4, 3, 4);
  DeviceArray<float> x(64);
  const float one = 1, zero = 0;
  const auto multiply = [&](const void* from) {
    return cublasLtMatmul(handle, desc, &one, from, a, x.data(), b, &zero, x.data(), d, x.data(), d, nullptr,
                          nullptr, 0, nullptr);
  };
  EXPECT_EQ(multiply(x.data()), CUBLAS_STATUS_INVALID_VALUE);
  const std::uint64_t five = 5;
  cublasLtMatrixLayoutSetAttribute(b, CUBLASLT_MATRIX_LAYOUT_ROWS, &five, sizeof five);
  EXPECT_EQ(multiply(x.data()), CUBLAS_STATUS_SUCCESS);
  float host[64] = {};
  EXPECT_EQ(multiply(host), CUBLAS_STATUS_SUCCESS) << "it is queued";
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress) << "and then finds the host's memory";
  for (const auto layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(desc);
  cublasLtDestroy(handle);
}

}  // namespace
}  // namespace sonde::emulated
