#include "kernels/cpu/gemm.h"

#include <omp.h>

#include <algorithm>
#include <utility>

#include "kernels/cpu/dequantise_blocks.h"
#include "kernels/cpu/scratch.h"

namespace sonde::cpu {
namespace {

constexpr std::int64_t kBlockRows = 192;       // x block: 192 rows x 256 words = 196 KB, in L2
constexpr std::int64_t kBlockWords = 256;      // panel slice: 256 x 16 or 32 words = 16 or 32 KB, in L1
constexpr std::int64_t kSmallBlock = 1 << 17;  // an x block of all K below this is not cut: panels stream

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Rows [first, first + rows) times panels [p0, p1), by one thread.
struct Task {
  std::int64_t first, rows, p0, p1;
};

void prefetch(const std::byte* from, const std::byte* to) {
  for (; from < to; from += 64) __builtin_prefetch(from, 0, 2);
}

// Where a task finds a panel's words from `word` on, over k values.
struct PackedPanels {
  static constexpr std::int64_t kCut = kGemmChain;  // k is cut at multiples of this: no chain in two
  const PackedWeight& w;
  std::int64_t scratch_bytes(std::int64_t) const { return 0; }
  const std::byte* panel(std::byte*, std::int64_t p, std::int64_t word, std::int64_t) const {
    return w.panel(p) + word * w.kernel().nr * w.kernel().w_bytes;
  }
  const std::byte* next(std::int64_t p, std::int64_t word) const { return panel(nullptr, p, word, 0); }
};
struct RawPanels {
  static constexpr std::int64_t kCut = 256;  // nor a block of quantised weights
  const RawWeight& w;
  std::int64_t panel_bytes(std::int64_t k) const {
    const GemmKernel& g = w.kernel();
    return (ceil_div(k, g.k_step) * g.nr * g.w_bytes + 63) / 64 * 64;
  }
  std::int64_t scratch_bytes(std::int64_t k) const { return panel_bytes(k) + w.kernel().nr * k * 4; }
  const std::byte* panel(std::byte* scratch, std::int64_t p, std::int64_t word, std::int64_t k) const {
    w.expand(scratch, reinterpret_cast<float*>(scratch + panel_bytes(k)), p, word * w.kernel().k_step, k);
    return scratch;
  }
  const std::byte* next(std::int64_t, std::int64_t) const { return nullptr; }
};

// Words of k that a block takes: at most kBlockWords, in blocks of nearly equal size.
template <class Panels>
std::int64_t block_words(const GemmKernel& g, std::int64_t rows, std::int64_t words) {
  static_assert(kBlockWords % Panels::kCut == 0);  // so a block that is rounded up stays within kBlockWords
  if (rows * words * 4 <= kSmallBlock) return words;
  const std::int64_t blocks = ceil_div(words, kBlockWords), cut = Panels::kCut / g.k_step;
  return ceil_div(ceil_div(words, blocks), cut) * cut;
}

template <class Panels>
void run(const Task& task, Tensor y, Tensor x, const Panels& panels, const float* bias) {
  const auto& w = panels.w;
  const GemmKernel& g = w.kernel();
  const std::int64_t words = ceil_div(w.k(), g.k_step);
  const std::int64_t most_words = block_words<Panels>(g, task.rows, words);
  // Tiles of nearly equal height: 8 rows are 4 + 4 rather than 6 + 2, whose chains would wait for each other.
  const std::int64_t tiles = ceil_div(task.rows, g.mr);
  const auto tile_row = [&](std::int64_t i) { return task.rows * i / tiles; };
  const std::int64_t x_bytes = (packed_x_bytes(g, task.rows, most_words * g.k_step) + 63) / 64 * 64;
  std::byte* packed = thread_scratch(x_bytes + panels.scratch_bytes(most_words * g.k_step));
  std::byte* expanded = packed + x_bytes;

  for (std::int64_t word = 0; word < words; word += most_words) {
    const std::int64_t k0 = word * g.k_step, k = std::min(w.k() - k0, most_words * g.k_step);
    const std::int64_t these_words = ceil_div(k, g.k_step);
    for (std::int64_t i = 0; i < tiles; ++i)
      g.pack_x(packed + tile_row(i) * these_words * 4, x.row(task.first + tile_row(i)) + k0, x.row_stride,
               static_cast<int>(tile_row(i + 1) - tile_row(i)), k);
    const bool last = k0 + k == w.k();
    for (std::int64_t p = task.p0; p < task.p1; ++p) {
      const std::byte* panel = panels.panel(expanded, p, word, k);
      const std::int64_t column = p * g.nr;
      const int columns = static_cast<int>(std::min<std::int64_t>(g.nr, w.n() - column));
      // The next panel comes to L2 while this one is worked on, a share of it before each tile.
      const std::byte* next = p + 1 < task.p1 ? panels.next(p + 1, word) : nullptr;
      const std::int64_t next_bytes = these_words * g.nr * g.w_bytes;
      for (std::int64_t i = 0; i < tiles; ++i) {
        if (next != nullptr && tiles > 1)
          prefetch(next + next_bytes * i / tiles, next + next_bytes * (i + 1) / tiles);
        g.tile(y.row(task.first + tile_row(i)) + column, y.row_stride, packed + tile_row(i) * these_words * 4,
               panel, k, static_cast<int>(tile_row(i + 1) - tile_row(i)), columns, word > 0,
               last && bias != nullptr ? bias + column : nullptr);
      }
    }
  }
}

template <class Panels>
void split_over_threads(Tensor y, Tensor x, const Panels& panels, const float* bias) {
  const GemmKernel& g = panels.w.kernel();
  const std::int64_t rows = x.dim(0), count = ceil_div(panels.w.n(), g.nr), mr = g.mr;
  if (rows == 0 || count == 0) return;
  const std::int64_t threads = omp_get_max_threads();
  // Whole tiles of rows dealt evenly; where rows alone are too few tasks, panels are cut too.
  const std::int64_t row_tiles = ceil_div(rows, mr), most_tiles = kBlockRows / mr;
  std::int64_t row_tasks = ceil_div(row_tiles, most_tiles);
  if (row_tasks > 1) row_tasks = std::min(row_tiles, ceil_div(row_tasks, threads) * threads);
  const std::int64_t wanted = threads == 1 || row_tasks >= 4 * threads ? 1 : ceil_div(4 * threads, row_tasks);
  const std::int64_t panel_tasks = std::min(wanted, std::max<std::int64_t>(1, count * g.nr / 256));
  const auto task_rows = [&](std::int64_t i) { return std::min(rows, row_tiles * i / row_tasks * mr); };

#pragma omp parallel for schedule(dynamic) if (row_tasks * panel_tasks > 1)
  for (std::int64_t i = 0; i < row_tasks * panel_tasks; ++i) {
    const std::int64_t r = i / panel_tasks, c = i % panel_tasks;
    run({task_rows(r), task_rows(r + 1) - task_rows(r), count * c / panel_tasks,
         count * (c + 1) / panel_tasks},
        y, x, panels, bias);
  }
}

}  // namespace

PackedWeight::PackedWeight(const GemmKernel& kernel, Tensor w)
    : kernel_(kernel),
      n_(w.dim(0)),
      k_(w.dim(1)),
      panel_bytes_(ceil_div(k_, kernel.k_step) * kernel.nr * kernel.w_bytes),
      panels_(ceil_div(n_, kernel.nr) * panel_bytes_) {
  const std::int64_t count = ceil_div(n_, kernel.nr);
#pragma omp parallel for schedule(static)
  for (std::int64_t p = 0; p < count; ++p) {
    const int columns = static_cast<int>(std::min<std::int64_t>(kernel.nr, n_ - p * kernel.nr));
    kernel.pack_w(panels_.data() + p * panel_bytes_, w.row(p * kernel.nr), w.row_stride, columns, k_);
  }
}

RawWeight::RawWeight(const GemmKernel& kernel, std::vector<RawRow> rows, std::int64_t k)
    : kernel_(kernel),
      rows_(std::move(rows)),
      k_(k),
      bytes_(static_cast<std::int64_t>(rows_.size() * sizeof(RawRow))) {
  for (const RawRow& row : rows_) bytes_ += bytes_of(row.dtype, k);
}

void RawWeight::expand(void* panel, float* values, std::int64_t i, std::int64_t k0, std::int64_t k) const {
  const std::int64_t first = i * kernel_.nr, columns = std::min<std::int64_t>(kernel_.nr, n() - first);
  for (std::int64_t c = 0; c < columns; ++c) {
    const RawRow& row = rows_[static_cast<std::size_t>(first + c)];
    dequantise_blocks(values + c * k, row.data + bytes_of(row.dtype, k0), row.dtype, k);
  }
  kernel_.pack_w(panel, values, k, static_cast<int>(columns), k);
}

void gemm(Tensor y, Tensor x, const PackedWeight& w, const float* bias) {
  split_over_threads(y, x, PackedPanels{w}, bias);
}
void gemm(Tensor y, Tensor x, const RawWeight& w, const float* bias) {
  split_over_threads(y, x, RawPanels{w}, bias);
}

}  // namespace sonde::cpu
