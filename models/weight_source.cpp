#include "models/weight_source.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/error.h"

namespace sonde {
namespace {

// The row of the file that holds row r of ours.
std::int64_t stored_row(const TensorRow& row, std::int64_t r) {
  const std::int64_t rows = row.shape[0];
  if (row.order == RowOrder::interleaved_pairs) {
    const std::int64_t e = rows / row.heads, head = r / e, half = r % e / (e / 2), i = r % (e / 2);
    return head * e + 2 * i + half;
  }
  if (row.order == RowOrder::qkv_per_head) {
    const std::int64_t e = rows / row.heads / 3, third = r / (row.heads * e), head = r / e % row.heads;
    return (head * 3 + third) * e + r % e;
  }
  return r;
}

// What the file stores of a row, value by value: the tensor, or an expert's slice of it.
Tensor stored_view(const FileTensor& tensor, const TensorRow& row) {
  const Tensor view = row.stacked ? tensor.view.slice_rows(row.expert, 1) : tensor.view;
  return Tensor(view.data, view.dtype, {view.count()});
}
std::int64_t stored_width(const TensorRow& row) {
  return row.shape.size() == 1 ? 1 : row.transposed ? row.shape[0] : row.shape[1];
}

[[noreturn]] void fail_nonfinite(const FileTensor& tensor, std::int64_t element, float value) {
  fail_hint("the weights are damaged; fetch the file again",
            "{}: tensor {}: element {} is {}, expected a finite number", tensor.file.string(), tensor.name,
            element, value);
}

bool all_finite(Tensor values) {
  const float* x = values.f32();
  const std::int64_t n = values.count();
  float sum = 0;  // NaN or infinity times zero is NaN and stays
#pragma omp parallel for simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * 0.0f;
  return sum == 0;
}

class FileWeights : public WeightSource {
 public:
  FileWeights(const ModelFiles& files, std::int64_t experts)
      : files_(files), experts_(experts), host_(make_cpu_backend()) {}

  void read(const TensorRow& row, const Slab& slab, Tensor out) override {
    const FileTensor& tensor = find_tensor(files_, row, experts_);
    const Tensor stored = stored_view(tensor, row);
    const std::int64_t width = slab.columns.size();
    read_one_block(stored);
    const bool in_order = row.order == RowOrder::plain && !row.transposed && width == stored_width(row);
    std::vector<float> blocks;
    float* to = out.f32();
    for (const Share& rows : slab.rows) {
      const std::int64_t n = rows.size();
      if (n == 0 || width == 0) continue;
      if (in_order)
        read_values(to, stored, {rows.begin * width, rows.end * width}, blocks);
      else if (row.transposed)
        read_transposed(to, stored, row, rows, slab.columns);
      else
        read_by_rows(to, stored, row, rows, slab.columns);
      const Tensor found(to, DType::f32, {n, width});
      if (!all_finite(found)) point_to_nonfinite(tensor, row, rows, slab.columns, found);
      to += n * width;
    }
    if (row.plus != 0)
      for (std::int64_t i = 0; i < out.count(); ++i) out.f32()[i] += row.plus;
  }

  std::vector<RawRow> raw_rows(const TensorRow& row, const Slab& slab) override {
    const FileTensor& tensor = find_tensor(files_, row, experts_);
    if (!is_quantised(tensor.view.dtype) || row.transposed || row.plus != 0) return {};
    const std::int64_t block = info(tensor.view.dtype).block_values;
    if (slab.columns.begin % block != 0 || slab.columns.size() % block != 0) return {};
    const std::vector<RawRow> rows = stored_rows(tensor, row, slab);
    check_raw(tensor, stored_view(tensor, row), rows, slab.columns.size());
    return rows;
  }

  void check(const TensorRow& row, const Slab& slab) override {
    const FileTensor& tensor = find_tensor(files_, row, experts_);
    check_raw(tensor, stored_view(tensor, row), stored_rows(tensor, row, slab), slab.columns.size());
  }

 private:
  // The slab's columns begin with a block.
  static std::vector<RawRow> stored_rows(const FileTensor& tensor, const TensorRow& row, const Slab& slab) {
    const Tensor stored = stored_view(tensor, row);
    const std::int64_t row_bytes = bytes_of(stored.dtype, stored_width(row));
    const std::byte* first = stored.data + bytes_of(stored.dtype, slab.columns.begin);
    std::vector<RawRow> rows;
    for (const Share& share : slab.rows)
      for (std::int64_t r = share.begin; r < share.end; ++r)
        rows.push_back({first + stored_row(row, r) * row_bytes, stored.dtype});
    return rows;
  }

  // Values of rows that stay as they are stored are looked at once.
  void check_raw(const FileTensor& tensor, Tensor stored, const std::vector<RawRow>& rows,
                 std::int64_t width) {
    read_one_block(stored);
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t at_once =
        std::max<std::int64_t>(1, (std::int64_t{1} << 20) / std::max<std::int64_t>(1, width));
    const OwnedTensor memory = make_tensor(DType::f32, {std::min(at_once, count) * width});
    for (std::int64_t first = 0; first < count && width > 0; first += at_once) {
      const std::int64_t n = std::min(at_once, count - first);
      const Tensor some(memory.view.data, DType::f32, {n, width});
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < n; ++i)
        dequantise(some.row(i), rows[static_cast<std::size_t>(first + i)].data, stored.dtype, width);
      if (all_finite(some)) continue;
      std::int64_t bad = 0;
      while (std::isfinite(some.f32()[bad])) ++bad;
      const std::byte* at = rows[static_cast<std::size_t>(first + bad / width)].data;
      const std::int64_t block = info(stored.dtype).block_values;
      fail_nonfinite(tensor, (at - stored.data) / bytes_of(stored.dtype, block) * block + bad % width,
                     some.f32()[bad]);
    }
  }

  void dequantise(float* to, const std::byte* from, DType dtype, std::int64_t n) {
    host_->dequantise(Tensor(to, DType::f32, {n}), Tensor(const_cast<std::byte*>(from), dtype, {n}));
  }

  // A type that cannot be read throws here, outside of parallel regions.
  void read_one_block(Tensor stored) {
    std::vector<float> values(static_cast<std::size_t>(info(stored.dtype).block_values));
    dequantise(values.data(), stored.data, stored.dtype, static_cast<std::int64_t>(values.size()));
  }

  // Blocks that the share cuts are expanded beside it.
  void read_values(float* to, Tensor stored, const Share& share, std::vector<float>& blocks) {
    const std::int64_t block = info(stored.dtype).block_values;
    const Share whole{share.begin / block * block, (share.end + block - 1) / block * block};
    const std::byte* from = stored.data + bytes_of(stored.dtype, whole.begin);
    if (whole.begin == share.begin && whole.end == share.end)
      return dequantise(to, from, stored.dtype, share.size());
    blocks.resize(static_cast<std::size_t>(whole.size()));
    dequantise(blocks.data(), from, stored.dtype, whole.size());
    std::copy_n(blocks.data() + (share.begin - whole.begin), share.size(), to);
  }

  void read_by_rows(float* to, Tensor stored, const TensorRow& row, const Share& rows, const Share& columns) {
    const std::int64_t width = stored_width(row);
#pragma omp parallel
    {
      std::vector<float> blocks;
#pragma omp for schedule(static)
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        const std::int64_t first = stored_row(row, r) * width;
        read_values(to + (r - rows.begin) * columns.size(), stored,
                    {first + columns.begin, first + columns.end}, blocks);
      }
    }
  }

  // Our column c is the file's row c.
  void read_transposed(float* to, Tensor stored, const TensorRow& row, const Share& rows,
                       const Share& columns) {
    const std::int64_t width = columns.size(), stride = stored_width(row);
#pragma omp parallel
    {
      std::vector<float> blocks, column(static_cast<std::size_t>(rows.size()));
#pragma omp for schedule(static)
      for (std::int64_t c = columns.begin; c < columns.end; ++c) {
        read_values(column.data(), stored, {c * stride + rows.begin, c * stride + rows.end}, blocks);
        for (std::int64_t r = 0; r < rows.size(); ++r)
          to[r * width + c - columns.begin] = column[static_cast<std::size_t>(r)];
      }
    }
  }

  [[noreturn]] static void point_to_nonfinite(const FileTensor& tensor, const TensorRow& row,
                                              const Share& rows, const Share& columns, Tensor found) {
    std::int64_t first = -1;
    float value = 0;
    const std::int64_t all_rows = row.shape[0], all_columns = row.shape.size() > 1 ? row.shape[1] : 1;
    for (std::int64_t r = rows.begin; r < rows.end; ++r)
      for (std::int64_t c = columns.begin; c < columns.end; ++c) {
        const float x = found.row(r - rows.begin)[c - columns.begin];
        const std::int64_t at = row.transposed ? c * all_rows + r : stored_row(row, r) * all_columns + c;
        if (!std::isfinite(x) && (first < 0 || at < first)) first = at, value = x;
      }
    fail_nonfinite(tensor, first, value);
  }

  const ModelFiles& files_;
  std::int64_t experts_;
  std::unique_ptr<Backend> host_;  // reads what the host has mapped, whatever runs the model
};

class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(std::uint64_t seed) : generator_(seed) {}

  void read(const TensorRow& row, const Slab& slab, Tensor out) override {
    const bool norm = is_norm(row.part);
    const float scale =
        norm || row.shape.size() == 1 ? 0.1f : 1 / std::sqrt(static_cast<float>(row.shape.back()));
    std::normal_distribution<float> normal(norm ? 1.0f : 0.0f, scale);
    // A short pattern repeated with a stride: drawing billions of normals would take longer than the
    // benchmark.
    std::vector<float> pattern(65521);
    for (float& x : pattern) x = normal(generator_);
    const std::int64_t width = row.shape.size() > 1 ? row.shape[1] : 1;
    float* to = out.f32();
    for (const Share& rows : slab.rows)
      for (std::int64_t r = rows.begin; r < rows.end; ++r)
        for (std::int64_t c = slab.columns.begin; c < slab.columns.end; ++c)
          *to++ = pattern[static_cast<std::size_t>(r * width + c) % pattern.size()];
  }

 private:
  std::mt19937_64 generator_;
};

}  // namespace

std::unique_ptr<WeightSource> file_weights(const ModelFiles& files, std::int64_t experts) {
  return std::make_unique<FileWeights>(files, experts);
}
std::unique_ptr<WeightSource> random_weights(std::uint64_t seed) {
  return std::make_unique<RandomWeights>(seed);
}

}  // namespace sonde
