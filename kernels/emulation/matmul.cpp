#include "kernels/emulation/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/emulation/device_memory.h"
#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/sanitizer.h"
#include "kernels/emulation/small_floats.h"
#include "runtime/error.h"

// The inner loop for the widest vectors at hand. No contraction: every path gives the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !SONDE_EMULATION_ASAN
#define SONDE_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SONDE_WIDE
#endif

namespace sonde::emulation {
namespace {

using namespace emulated;

constexpr std::int64_t kLanes = 16;  // partial sums of a dot product

// sums of kLanes strands of x.y over n values, n a multiple of kLanes; four columns of y at a time
SONDE_WIDE void dot_strands(float* sums /*[4, kLanes]*/, const float* x, const float* y,
                            std::int64_t y_stride, std::int64_t n) {
  for (int column = 0; column < 4; ++column) {
    float strand[kLanes] = {};
    const float* values = y + column * y_stride;
    for (std::int64_t i = 0; i < n; i += kLanes)
      for (std::int64_t lane = 0; lane < kLanes; ++lane) strand[lane] += x[i + lane] * values[i + lane];
    std::copy(strand, strand + kLanes, sums + column * kLanes);
  }
}

std::int64_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2; }

float load(cudaDataType_t type, const std::byte* at) {
  std::uint16_t half;
  float value;
  switch (type) {
    case CUDA_R_32F:
      return std::memcpy(&value, at, 4), value;
    case CUDA_R_16BF:
      return std::memcpy(&half, at, 2), __bfloat162float(__ushort_as_bfloat16(half));
    case CUDA_R_16F:
      return std::memcpy(&half, at, 2), __half2float(__ushort_as_half(half));
    case CUDA_R_8F_E4M3:
      return from_e4m3(static_cast<std::uint8_t>(*at));
  }
  return 0;
}
void store(cudaDataType_t type, std::byte* at, float value) {
  if (type == CUDA_R_32F) {
    std::memcpy(at, &value, 4);
  } else {
    const std::uint16_t bits =
        type == CUDA_R_16BF ? __float2bfloat16_rn(value).bits : __float2half_rn(value).bits;
    std::memcpy(at, &bits, 2);
  }
}

// Rows of op(x)' or columns, each with its k values side by side, k filled up with zeros to a multiple of
// kLanes.
std::vector<float> pack(const MatrixLayout& layout, const void* data, std::int64_t batch, bool along_columns,
                        bool tf32, std::int64_t padded) {
  const auto k = static_cast<std::int64_t>(along_columns ? layout.rows : layout.columns);
  const auto rows = static_cast<std::int64_t>(along_columns ? layout.columns : layout.rows);
  const std::int64_t step = size_of(layout.type);
  const auto* start = static_cast<const std::byte*>(data) + batch * layout.batch_offset * step;
  std::vector<float> packed(static_cast<std::size_t>((rows + 3) / 4 * 4 * padded));
#pragma omp parallel for
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t at = along_columns ? r * layout.ld + i : i * layout.ld + r;
      float value = load(layout.type, start + at * step);
      if (tf32) value = std::bit_cast<float>(float_to_tf32(value));
      packed[static_cast<std::size_t>(r * padded + i)] = value;
    }
  return packed;
}

float apply(cublasLtEpilogue_t epilogue, float x) {
  if (epilogue & CUBLASLT_EPILOGUE_RELU) return x > 0 ? x : 0;
  if (epilogue & CUBLASLT_EPILOGUE_GELU)
    return 0.5f * x * (1 + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  return x;
}

void multiply_batch(const Matmul& mm, std::int64_t batch) {
  const auto m = static_cast<std::int64_t>(mm.d_layout.rows),
             n = static_cast<std::int64_t>(mm.d_layout.columns);
  const bool ta = mm.desc.trans_a != CUBLAS_OP_N, tb = mm.desc.trans_b != CUBLAS_OP_N;
  const auto k = static_cast<std::int64_t>(ta ? mm.a_layout.rows : mm.a_layout.columns);
  const std::int64_t padded = (k + kLanes - 1) / kLanes * kLanes;
  const bool tf32 = mm.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && mm.a_layout.type == CUDA_R_32F;
  const auto a = pack(mm.a_layout, mm.a, batch, ta, tf32, padded),
             b = pack(mm.b_layout, mm.b, batch, !tb, tf32, padded);
  const float scale =
      mm.alpha * (mm.desc.a_scale ? *mm.desc.a_scale : 1) * (mm.desc.b_scale ? *mm.desc.b_scale : 1);
  const cudaDataType_t type = mm.d_layout.type;
  const auto bias_type = mm.desc.bias_type < 0 ? type : static_cast<cudaDataType_t>(mm.desc.bias_type);
  const auto* c = static_cast<const std::byte*>(mm.c) + batch * mm.c_layout.batch_offset * size_of(type);
  auto* d = static_cast<std::byte*>(mm.d) + batch * mm.d_layout.batch_offset * size_of(type);
  const auto* bias = static_cast<const std::byte*>(mm.desc.bias);
  const std::int64_t part = (padded / kLanes + mm.parts - 1) / mm.parts * kLanes;
#pragma omp parallel for schedule(dynamic, 8)
  for (std::int64_t column = 0; column < n; ++column)
    for (std::int64_t row0 = 0; row0 < m; row0 += 4) {
      float sum[4] = {};
      for (std::int64_t from = 0; from < padded; from += part) {
        float strands[4 * kLanes];
        dot_strands(strands, &b[static_cast<std::size_t>(column * padded + from)],
                    &a[static_cast<std::size_t>(row0 * padded + from)], padded,
                    std::min(part, padded - from));
        for (int i = 0; i < 4; ++i) {
          float one = 0;
          for (std::int64_t lane = 0; lane < kLanes; ++lane) one += strands[i * kLanes + lane];
          sum[i] += one;
        }
      }
      for (std::int64_t i = 0; i < 4 && row0 + i < m; ++i) {
        const std::int64_t row = row0 + i;
        float value = scale * sum[i];
        if (mm.beta != 0) value += mm.beta * load(type, c + (column * mm.c_layout.ld + row) * size_of(type));
        if (mm.desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
          value += load(bias_type, bias + row * size_of(bias_type));
        store(type, d + (column * mm.d_layout.ld + row) * size_of(type), apply(mm.desc.epilogue, value));
      }
    }
}

bool on_device(const MatrixLayout& layout, const void* data) {
  const std::int64_t values = (layout.batches - 1) * layout.batch_offset +
                              (static_cast<std::int64_t>(layout.columns) - 1) * layout.ld +
                              static_cast<std::int64_t>(layout.rows);
  return DeviceMemory::get().holds(data, static_cast<std::size_t>(values * size_of(layout.type)));
}

}  // namespace

Fault run_matmul(const Matmul& mm) {
  if (!on_device(mm.a_layout, mm.a) || !on_device(mm.b_layout, mm.b) || !on_device(mm.d_layout, mm.d) ||
      (mm.beta != 0 && !on_device(mm.c_layout, mm.c)))
    return {kErrorIllegalAddress, "a matmul whose operands are not all in device memory"};
  if ((mm.desc.epilogue & CUBLASLT_EPILOGUE_BIAS) &&
      !DeviceMemory::get().holds(mm.desc.bias, mm.d_layout.rows))
    return {kErrorIllegalAddress, "a matmul whose bias is not in device memory"};
  for (std::int64_t batch = 0; batch < mm.d_layout.batches; ++batch) multiply_batch(mm, batch);
  return {};
}

}  // namespace sonde::emulation
