// Captured rows as a store keeps them: y = cast(x[rows]), and per column count, sum x, sum x^2, max |x| and
// the first value that the store refuses, in one pass. Statistics are of the values before the cast, in
// float64, a column's rows one after the other, as runtime/packed_rows.cpp adds them: the same bits. (x^2 of
// a float is exact in float64, so that a fused multiply-add changes nothing.)
//
// Ladder: gather, cast and a thread per column that walks down its rows, each on its own (x read three times,
// 4 bytes in flight a thread) -> tiles of 64 rows x 32 columns through shared memory, the next two on their
// way while this one is cast by all warps; warps 0, 1 and 2 walk down its columns, for the sum, the squares
// and the largest. Scores and patterns have one pooled column: a warp per row whose keys go round in 8 lanes,
// then the rows' sums in order.
// Bytes at least: 4 read and 4 or 2 written a value, 32 a column for the sums. FLOPs: 3 a value in float64,
// in a chain of rows: some 10 cycles each, 12 us for 2048 rows at 1.7 GHz, about what their bytes take.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/gpu_backend.h"
#include "kernels/cuda/narrow.cuh"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {
namespace {

constexpr int kColumns = 32, kTileRows = 64, kStages = 3, kWarps = 8;
struct alignas(16) Tile {
  float at[kTileRows][kColumns];
};
constexpr unsigned long long kNone = PackedSums::kNoneRefused;
constexpr std::uint32_t kMinusInf = 0xff800000u;

// T: float, or 16 bits that are bf16 or half. Four values, or one, of a row.
template <class T, bool kBf16>
GPU_DEV void store_one(T* to, float x) {
  if constexpr (sizeof(T) == 4)
    *to = x;
  else
    *to = narrow<kBf16>(x);
}
template <class T, bool kBf16>
GPU_DEV void store_four(T* to, float4 v) {
  if constexpr (sizeof(T) == 4)
    store4(to, v);
  else
    stg64(to, narrow4<kBf16>(v));
}

// Of the columns [32 blockIdx.x, ...): all rows, in tiles.
template <class T, bool kBf16, bool kFour>
__global__ void pack_columns(T* y, double* sums, const double* before, Rows x, std::int64_t rows,
                             std::int64_t width, std::uint32_t limit) {
  GPU_SHARED(Tile[kStages], tiles);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t column0 = std::int64_t{blockIdx.x} * kColumns;
  // A warp's piece: 4 rows of 8 times four columns, or a row of 32.
  const int row_of = kFour ? lane / 8 : 0, column_of = kFour ? lane % 8 * 4 : lane;
  constexpr int kAtOnce = kFour ? 4 : 1;
  const bool inside = column0 + column_of < width;
  const std::int64_t count = (rows + kTileRows - 1) / kTileRows;

  const auto fetch = [&](std::int64_t tile) {
    for (int r = warp * kAtOnce + row_of; r < kTileRows; r += kWarps * kAtOnce) {
      const std::int64_t row = tile * kTileRows + r;
      if (tile >= count || row >= rows || !inside) continue;
      float* to = &tiles[tile % kStages].at[r][column_of];
      const float* from = x.row(row) + column0 + column_of;
      if constexpr (kFour)
        cp_async16(to, from);
      else
        cp_async4(to, from);
    }
    cp_async_commit();
  };

  const std::int64_t column = column0 + lane;  // whose rows this thread walks down, in warps 0, 1 and 2
  const bool walks = warp < 3 && column < width;
  double total = walks && before != nullptr ? before[warp * width + column] : 0;
  std::uint32_t largest = 0;
  unsigned long long refused = kNone;
  for (int stage = 0; stage + 1 < kStages; ++stage) fetch(stage);
  for (std::int64_t tile = 0; tile < count; ++tile) {
    cp_async_wait<kStages - 2>();
    __syncthreads();  // the tile is whole, and the one before it is done with
    fetch(tile + kStages - 1);
    const float(*here)[kColumns] = tiles[tile % kStages].at;
    const int n = static_cast<int>(rows - tile * kTileRows < kTileRows ? rows - tile * kTileRows : kTileRows);
    if (walks) {
      for (int r = 0; r < n; ++r) {
        const float value = here[r][lane];
        const double wide = static_cast<double>(value);
        if (warp == 0) total += wide;
        if (warp == 1) total += wide * wide;
        if (warp == 2) {
          const std::uint32_t size = __float_as_uint(value) & 0x7fffffffu;
          largest = size > largest ? size : largest;
          if (size >= limit && refused == kNone)
            refused = static_cast<unsigned long long>(tile * kTileRows + r) << 32 | __float_as_uint(value);
        }
      }
    }
    for (int r = warp * kAtOnce + row_of; r < n; r += kWarps * kAtOnce) {
      if (!inside) continue;
      T* to = y + (tile * kTileRows + r) * width + column0 + column_of;
      if constexpr (kFour) {
        const uint4 v = lds128(&here[r][column_of]);
        store_four<T, kBf16>(to, float4{__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                                        __uint_as_float(v.w)});
      } else {
        store_one<T, kBf16>(to, here[r][column_of]);
      }
    }
  }
  cp_async_wait_all();
  if (!walks) return;
  if (warp == 2) {
    const double now = static_cast<double>(__uint_as_float(largest));
    total = total < now ? now : total;
    reinterpret_cast<unsigned long long*>(sums)[3 * width + column] = refused;
  }
  sums[warp * width + column] = total;
  if (column == 0 && warp == 0)
    sums[4 * width] = (before != nullptr ? before[4 * width] : 0) + static_cast<double>(rows);
}

// What a row of scores adds up to.
struct RowSums {
  double sum, squares, largest, count;
  unsigned long long refused;  // bits of the value, or none
};

constexpr int kLanes = 8, kChunk = 512, kRowWarps = 4;
struct alignas(16) Chunk {
  float at[kChunk];
};

// A warp per row [heads, keys]. Keys of a head go to lanes j % 8; lanes 0 to 7 add, 8 to 15 add squares, 16
// to 23 look for the largest.
template <class T, bool kBf16, bool kFour>
__global__ void pack_pooled(T* y, RowSums* sums, Rows x, std::int64_t rows, std::int64_t width,
                            std::int64_t keys, double missing, std::uint32_t limit, bool minus_inf) {
  GPU_SHARED(Chunk[kRowWarps], chunks);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int part = lane / kLanes, key_lane = lane % kLanes;
  float* chunk = chunks[warp].at;
  for (std::int64_t r = std::int64_t{blockIdx.x} * kRowWarps + warp; r < rows;
       r += std::int64_t{gridDim.x} * kRowWarps) {
    const float* from = x.row(r);
    T* to = y + r * width;
    double total = 0;
    int counted = 0;
    unsigned long long refused = kNone;  // place in the row << 32 | bits
    for (std::int64_t first = 0; first < width; first += kChunk) {
      const int n = static_cast<int>(width - first < kChunk ? width - first : kChunk);
      if constexpr (kFour) {
        for (int i = lane * 4; i < n; i += 128) {
          const float4 v = load4(from + first + i);
          sts128(chunk + i, uint4{__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z),
                                  __float_as_uint(v.w)});
          store_four<T, kBf16>(to + first + i, v);
        }
      } else {
        for (int i = lane; i < n; i += 32) {
          const float v = from[first + i];
          chunk[i] = v;
          store_one<T, kBf16>(to + first + i, v);
        }
      }
      __syncwarp();
      for (std::int64_t head = first / keys * keys; part < 3 && head < first + n; head += keys) {
        // The head's keys in this chunk, as places of the chunk.
        const int begin = static_cast<int>(head > first ? head - first : 0);
        const int end = static_cast<int>(head + keys < first + n ? head + keys - first : n);
        const int at = static_cast<int>((first + begin - head) % kLanes);
        for (int i = begin + (key_lane - at + kLanes) % kLanes; i < end; i += kLanes) {
          const float value = chunk[i];
          const std::uint32_t bits = __float_as_uint(value), size = bits & 0x7fffffffu;
          const bool masked = minus_inf && bits == kMinusInf;
          const double wide = masked ? 0.0 : static_cast<double>(value);
          if (part == 0) total += wide;
          if (part == 1) total += wide * wide;
          if (part == 2 && !masked) {
            const double magnitude = static_cast<double>(__uint_as_float(size));
            total = total < magnitude ? magnitude : total;
            ++counted;
            if (size >= limit && refused == kNone)
              refused = static_cast<unsigned long long>(first + i) << 32 | bits;
          }
        }
      }
      __syncwarp();  // before the next chunk
    }
    RowSums row{0, 0, 0, missing, kNone};
    for (int l = 0; l < kLanes; ++l) {
      row.sum += __shfl_sync(0xffffffffu, total, l);
      row.squares += __shfl_sync(0xffffffffu, total, kLanes + l);
      const double largest = __shfl_sync(0xffffffffu, total, 2 * kLanes + l);
      row.largest = row.largest < largest ? largest : row.largest;
      row.count += static_cast<double>(__shfl_sync(0xffffffffu, counted, 2 * kLanes + l));
      const unsigned long long bad = __shfl_sync(0xffffffffu, refused, 2 * kLanes + l);
      row.refused = bad < row.refused ? bad : row.refused;
    }
    if (lane == 0) sums[r] = row;
  }
}

// The rows' sums, one after the other.
__global__ void add_up_rows(double* sums, const double* before, const RowSums* row, std::int64_t rows) {
  const int what = static_cast<int>(threadIdx.x);  // 0 sum, 1 squares, 2 largest, 3 refused, 4 count
  double total = before != nullptr && what != 3 ? before[what] : 0;
  unsigned long long refused = kNone;
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowSums& s = row[r];
    if (what == 0) total += s.sum;
    if (what == 1) total += s.squares;
    if (what == 2) total = total < s.largest ? s.largest : total;
    if (what == 4) total += s.count;
    if (what == 3 && s.refused != kNone && refused == kNone)
      refused = static_cast<unsigned long long>(r) << 32 | (s.refused & 0xffffffffu);
  }
  if (what == 3)
    reinterpret_cast<unsigned long long*>(sums)[3] = refused;
  else
    sums[what] = total;
}

// f(T{}, bf16 or not) for the store's type.
template <class F>
void with_type(DType dtype, const F& f) {
  if (dtype == DType::f32) return f(float{}, std::false_type{});
  dtype == DType::bf16 ? f(std::uint16_t{}, std::true_type{}) : f(std::uint16_t{}, std::false_type{});
}

// The rows, which may be a stretch that needs no list.
bool is_stretch(std::span<const std::int32_t> rows) {
  for (std::size_t i = 1; i < rows.size(); ++i)
    if (rows[i] != rows[i - 1] + 1) return false;
  return !rows.empty();
}

}  // namespace

void GpuBackend::do_pack_rows(Tensor y, Tensor sums, Tensor x, std::span<const std::int32_t> rows,
                              const PackFormat& format, Tensor before) {
  const std::int64_t width = x.width(), n = y.rows();
  const Rows from = is_stretch(rows) ? rows_of(x.slice_rows(rows[0], n)) : rows_of(x, lists_.get(rows));
  auto* to_sums = device_data<double>(sums);
  const auto* sums_before = before.empty() ? nullptr : device_data<double>(before);
  const ValueRule& rule = format.rule;
  with_type(format.dtype, [&]<class T, class Bf16>(T, Bf16) {
    T* to = device_data<T>(y);
    const bool four = width % 4 == 0 && by_float4(from) && reinterpret_cast<std::uintptr_t>(to) % 16 == 0;
    if (format.pooled == 0) {
      const dim3 grid(static_cast<unsigned>((width + kColumns - 1) / kColumns));
      return launch("pack_rows",
                    four ? pack_columns<T, Bf16::value, true> : pack_columns<T, Bf16::value, false>, grid,
                    dim3(32 * kWarps), 0, stream_, to, to_sums, sums_before, from, n, width, rule.limit);
    }
    const auto bytes = static_cast<std::int64_t>(sizeof(RowSums)) * n;
    if (scratch_.bytes() < bytes) scratch_ = allocate(bytes);
    auto* per_row = reinterpret_cast<RowSums*>(scratch_.data());
    const std::int64_t blocks = std::min<std::int64_t>((n + kRowWarps - 1) / kRowWarps, 1 << 20);
    launch("pack_rows", four ? pack_pooled<T, Bf16::value, true> : pack_pooled<T, Bf16::value, false>,
           dim3(static_cast<unsigned>(blocks)), dim3(32 * kRowWarps), 0, stream_, to, per_row, from, n, width,
           x.dim(2), static_cast<double>(format.missing(width)), rule.limit, rule.minus_inf);
    launch("pack_rows", add_up_rows, dim3(1), dim3(5), 0, stream_, to_sums, sums_before,
           static_cast<const RowSums*>(per_row), n);
  });
}

}  // namespace sonde::SONDE_GPU
