#include "kernels/emulation/cublas_shim.h"

#include <algorithm>
#include <cstring>

#include "kernels/emulation/matmul.h"
#include "kernels/emulation/runtime_call.h"

namespace sonde::emulated {
namespace {

constexpr std::uint64_t kAlgorithms = 3;  // algorithm i sums k in i + 1 parts

template <class T>
cublasStatus_t read(T& field, const void* value, std::size_t bytes) {
  if (!value || bytes < sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}
template <class T, class... Values>
cublasStatus_t create(T** object, Values... values) {
  if (!object) return CUBLAS_STATUS_INVALID_VALUE;
  *object = new T{values...};
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t destroy(T* object) {
  delete object;
  return CUBLAS_STATUS_SUCCESS;
}

// Whether the layouts fit each other, and the types are a row of cuBLAS's table that is modelled.
cublasStatus_t check_problem(const MatmulDesc& desc, const MatrixLayout& a, const MatrixLayout& b,
                             const MatrixLayout& c, const MatrixLayout& d) {
  const bool ta = desc.trans_a != CUBLAS_OP_N, tb = desc.trans_b != CUBLAS_OP_N;
  const std::uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns;
  const std::uint64_t kb = tb ? b.columns : b.rows, n = tb ? b.rows : b.columns;
  if (k != kb || d.rows != m || d.columns != n || c.rows != m || c.columns != n || m == 0 || n == 0 || k == 0)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const MatrixLayout* layout : {&a, &b, &c, &d})
    if (layout->ld < static_cast<std::int64_t>(layout->rows) || layout->batches != d.batches)
      return CUBLAS_STATUS_INVALID_VALUE;
  const bool f8 = a.type == CUDA_R_8F_E4M3;
  const bool outputs =
      c.type == d.type && d.type != CUDA_R_8F_E4M3 && (d.type == CUDA_R_32F || f8 ? true : d.type == a.type);
  if (a.type != b.type || !outputs) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (a.type == CUDA_R_32F && d.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (f8 && (!ta || tb || m % 16 || k % 16 || emulation::config().compute < 89))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

std::size_t workspace_of(std::uint64_t algorithm, const MatrixLayout& d) {
  return algorithm * d.rows * d.columns * static_cast<std::uint64_t>(d.batches) * sizeof(float);
}

}  // namespace

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown cuBLAS status";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return create(handle); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }
std::size_t cublasLtGetVersion() { return 130000; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  if (scale_type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto status = create(desc);
  if (status == CUBLAS_STATUS_SUCCESS) (*desc)->compute = compute;
  return status;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy(desc); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  if (!desc) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return read(desc->trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return read(desc->trans_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return read(desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return read(desc->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
      return read(desc->a_scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
      return read(desc->b_scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return read(desc->bias_type, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          std::uint64_t rows, std::uint64_t columns, std::int64_t ld) {
  return create(layout, type, rows, columns, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  if (!layout) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return read(layout->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return read(layout->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return read(layout->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return read(layout->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return read(layout->batches, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return read(layout->batch_offset, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return create(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  if (!preference || attribute != CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return CUBLAS_STATUS_INVALID_VALUE;
  return read(preference->workspace, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !a || !b || !c || !d || !preference || !results || !found || wanted < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  *found = 0;
  if (const auto status = check_problem(*desc, *a, *b, *c, *d)) return status;
  for (std::uint64_t algorithm = 0; algorithm < kAlgorithms && *found < wanted; ++algorithm) {
    const std::size_t bytes = workspace_of(algorithm, *d);
    if (bytes > preference->workspace) continue;
    results[(*found)++] = {{{algorithm}}, bytes, CUBLAS_STATUS_SUCCESS, 1.0f, {}};
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !a || !b || !c || !d || !algo || !result) return CUBLAS_STATUS_INVALID_VALUE;
  if (const auto status = check_problem(*desc, *a, *b, *c, *d)) return status;
  if (algo->data[0] >= kAlgorithms) return CUBLAS_STATUS_INVALID_VALUE;
  *result = {*algo, workspace_of(algo->data[0], *d), CUBLAS_STATUS_SUCCESS, 1.0f, {}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, std::size_t workspace_bytes,
                              cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !alpha || !beta || !a || !b || !d || !a_layout || !b_layout || !c_layout || !d_layout)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (const auto status = check_problem(*desc, *a_layout, *b_layout, *c_layout, *d_layout)) return status;
  const bool wants_bias = desc->epilogue & CUBLASLT_EPILOGUE_BIAS;
  if (wants_bias && !desc->bias) return CUBLAS_STATUS_INVALID_VALUE;
  const std::uint64_t algorithm = algo ? algo->data[0] : 0;
  if (algorithm >= kAlgorithms) return CUBLAS_STATUS_INVALID_VALUE;
  const std::size_t needs = workspace_of(algorithm, *d_layout);
  if (needs > workspace_bytes || (needs && !workspace)) return CUBLAS_STATUS_INVALID_VALUE;
  emulation::Matmul matmul{*desc,     *a_layout, *b_layout, *c_layout,
                           *d_layout, a,         b,         c ? c : d,
                           d,         0,         0,         static_cast<int>(algorithm) + 1};
  std::memcpy(&matmul.alpha, alpha, sizeof(float));
  std::memcpy(&matmul.beta, beta, sizeof(float));
  if (matmul.beta != 0 && !c) return CUBLAS_STATUS_INVALID_VALUE;
  const auto error =
      emulation::stream_call(stream, [&](emulation::Engine& engine, emulation::Stream* resolved) {
        return engine.submit(resolved, {"matmul",
                                        [matmul, workspace, needs] {
                                          // what the real one leaves there is nobody's business
                                          if (needs) std::memset(workspace, 0xff, needs);
                                          return emulation::run_matmul(matmul);
                                        },
                                        {}});
      });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace sonde::emulated
