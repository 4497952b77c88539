#include "kernels/cuda/blas.h"

#include <algorithm>

#if GPU_EMULATED
#include "kernels/emulation/cublas_shim.h"
#define SONDE_BLAS_CALL(name) decltype(&sonde::emulated::name) name = &sonde::emulated::name;
#else
#include <cublasLt.h>
#include <dlfcn.h>
#define SONDE_BLAS_CALL(name) decltype(&::name) name = find<decltype(&::name)>(#name);
#endif

namespace sonde::SONDE_GPU {
namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;

void check_blas(cublasStatus_t status, const char* doing) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("{}: cuBLASLt says {}", doing, static_cast<int>(status));
}

#if !GPU_EMULATED
template <class F>
F find(const char* name) {
  static void* const library = [] {
    for (const char* file : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"})
      if (void* opened = dlopen(file, RTLD_NOW | RTLD_LOCAL)) return opened;
    fail_hint("LD_LIBRARY_PATH names the folder with libcublasLt.so",
              "--device cuda: cannot open cuBLASLt: {}", dlerror());
  }();
  void* const function = dlsym(library, name);
  if (function == nullptr) fail("cuBLASLt has no {}", name);
  return reinterpret_cast<F>(function);
}
#endif

}  // namespace

struct Blas::Library {
  SONDE_BLAS_CALL(cublasLtGetVersion)
  SONDE_BLAS_CALL(cublasLtCreate)
  SONDE_BLAS_CALL(cublasLtDestroy)
  SONDE_BLAS_CALL(cublasLtMatmulDescCreate)
  SONDE_BLAS_CALL(cublasLtMatmulDescDestroy)
  SONDE_BLAS_CALL(cublasLtMatmulDescSetAttribute)
  SONDE_BLAS_CALL(cublasLtMatrixLayoutCreate)
  SONDE_BLAS_CALL(cublasLtMatrixLayoutDestroy)
  SONDE_BLAS_CALL(cublasLtMatmulPreferenceCreate)
  SONDE_BLAS_CALL(cublasLtMatmulPreferenceDestroy)
  SONDE_BLAS_CALL(cublasLtMatmulPreferenceSetAttribute)
  SONDE_BLAS_CALL(cublasLtMatmulAlgoGetHeuristic)
  SONDE_BLAS_CALL(cublasLtMatmulAlgoCheck)
  SONDE_BLAS_CALL(cublasLtMatmul)
  cublasLtHandle_t handle = nullptr;
};

// Of one shape. Column-major as cuBLAS sees it: y' [n, rows] = (w' [k, n])' x' [k, rows].
struct Blas::Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulAlgo_t algorithm;
  bool chosen = false;
};

Blas::Blas(Stream& stream, std::shared_ptr<DeviceMemory> memory, const std::string& gpu,
           const std::filesystem::path& recorded)
    : stream_(stream),
      library_(std::make_unique<Library>()),
      algorithms_(Algorithms::file_of(gpu, version()), recorded),
      workspace_(static_cast<std::int64_t>(kWorkspace), std::move(memory)) {
  check_blas(library_->cublasLtCreate(&library_->handle), "opening cuBLASLt");
}

Blas::~Blas() {
  for (auto& [shape, plan] : plans_) {
    for (const cublasLtMatrixLayout_t layout : {plan.w, plan.x, plan.y})
      library_->cublasLtMatrixLayoutDestroy(layout);
    library_->cublasLtMatmulDescDestroy(plan.desc);
  }
  library_->cublasLtDestroy(library_->handle);
}

std::size_t Blas::version() const { return library_->cublasLtGetVersion(); }

// The heuristics count on addresses that are multiples of 256 bytes; 16 bytes are what the fast kernels load.
// Of e4m3 all kernels ask for n and k in multiples of 16.
bool Blas::takes(const Operands& o) {
  const auto aligned = [](const void* p, std::uintptr_t to) {
    return reinterpret_cast<std::uintptr_t>(p) % to == 0;
  };
  const std::int64_t step = o.dtype == DType::f32 ? 4 : o.dtype == DType::e4m3 ? 16 : 8;
  return aligned(o.y, 256) && aligned(o.x, 256) && aligned(o.w, 256) && aligned(o.bias, 16) &&
         o.k % step == 0 && o.x_stride % step == 0 && o.y_stride % 4 == 0 &&
         o.n % (o.dtype == DType::e4m3 ? 16 : 4) == 0;
}

// What ran before for such operands, if the library still takes it; else its first proposal, which is kept.
void Blas::choose(Plan& plan, const Operands& o) {
  const Library& lt = *library_;
  const std::string shape =
      fmt::format("{} rows {} apart, weight {} x {}, result {} apart, {}{}", o.rows, o.x_stride, o.n, o.k,
                  o.y_stride, name(o.dtype), o.bias != nullptr ? ", bias" : "");
  plan.chosen = true;
  cublasLtMatmulHeuristicResult_t result;
  static_assert(sizeof plan.algorithm.data == sizeof(Algorithms::Code));
  const std::filesystem::path recorded = algorithms_.recorded_in(shape);
  if (const Algorithms::Code* kept = algorithms_.find(shape)) {
    std::copy(kept->begin(), kept->end(), plan.algorithm.data);
    if (lt.cublasLtMatmulAlgoCheck(lt.handle, plan.desc, plan.w, plan.x, plan.y, plan.y, &plan.algorithm,
                                   &result) == CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= kWorkspace)
      return;
    if (!recorded.empty())
      fail_hint("the run can't go on with the same bits here: start it anew in another folder",
                "{}: cuBLASLt does not take the algorithm recorded for {}", recorded.string(), shape);
  }
  cublasLtMatmulPreference_t preference = nullptr;
  check_blas(lt.cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm");
  const std::uint64_t bytes = kWorkspace;
  check_blas(lt.cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &bytes, sizeof bytes),
             "choosing an algorithm");
  int found = 0;
  const cublasStatus_t status = lt.cublasLtMatmulAlgoGetHeuristic(
      lt.handle, plan.desc, plan.w, plan.x, plan.y, plan.y, preference, 1, &result, &found);
  lt.cublasLtMatmulPreferenceDestroy(preference);
  check_blas(status, "choosing an algorithm");
  if (found == 0) fail("cuBLASLt has no algorithm for {} x {} x {}", o.rows, o.n, o.k);
  plan.algorithm = result.algo;
  Algorithms::Code code;
  std::copy_n(plan.algorithm.data, code.size(), code.begin());
  algorithms_.add(shape, code);
}

void Blas::linear(const Operands& o) {
  const Library& lt = *library_;
  Plan& plan = plans_[{o.rows, o.n, o.k, o.x_stride, o.y_stride, o.dtype, o.bias != nullptr}];
  if (plan.desc == nullptr) {
    const cudaDataType type = o.dtype == DType::f32    ? CUDA_R_32F
                              : o.dtype == DType::bf16 ? CUDA_R_16BF
                              : o.dtype == DType::f16  ? CUDA_R_16F
                                                       : CUDA_R_8F_E4M3;
    const auto n = static_cast<std::uint64_t>(o.n), k = static_cast<std::uint64_t>(o.k),
               rows = static_cast<std::uint64_t>(o.rows);
    check_blas(lt.cublasLtMatmulDescCreate(&plan.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "describing a product");
    // CUBLASLT_MATMUL_DESC_FAST_ACCUM stays off, as it is by default: with it products of e4m3 are added up
    // in the tensor cores alone, whose sums keep some 14 bits (arXiv:2412.19437, section 3.3.2).
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check_blas(lt.cublasLtMatmulDescSetAttribute(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                 sizeof transposed),
               "describing a product");
    if (o.bias != nullptr) {
      const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
      check_blas(lt.cublasLtMatmulDescSetAttribute(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                   sizeof epilogue),
                 "describing a product");
    }
    check_blas(lt.cublasLtMatrixLayoutCreate(&plan.w, type, k, n, o.k), "describing a weight");
    check_blas(lt.cublasLtMatrixLayoutCreate(&plan.x, type, k, rows, o.x_stride), "describing rows");
    check_blas(lt.cublasLtMatrixLayoutCreate(&plan.y, CUDA_R_32F, n, rows, o.y_stride), "describing rows");
  }
  if (!plan.chosen) {
    point_to_bias(plan, o);
    choose(plan, o);
  }
  stream_.run(multiply, this, &plan, o);
}

void Blas::point_to_bias(const Plan& plan, const Operands& o) {
  if (o.bias != nullptr)
    check_blas(library_->cublasLtMatmulDescSetAttribute(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o.bias,
                                                        sizeof o.bias),
               "describing a product");
}

void Blas::multiply(cudaStream_t stream, Blas* blas, Plan* of_shape, Operands o) {
  const Library& lt = *blas->library_;
  const Plan& plan = *of_shape;
  blas->point_to_bias(plan, o);
  const float one = 1, zero = 0;
  check_blas(lt.cublasLtMatmul(lt.handle, plan.desc, &one, o.w, plan.w, o.x, plan.x, &zero, o.y, plan.y, o.y,
                               plan.y, &plan.algorithm, blas->workspace_.data(), kWorkspace, stream),
             "linear");
}

}  // namespace sonde::SONDE_GPU
