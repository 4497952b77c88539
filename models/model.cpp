#include "models/model.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "io/hash.h"
#include "models/family.h"
#include "models/tensor_table.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// A tensor's values in float32, wherever they come from: a file, or a random generator.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual void read(const TensorRow& row, Tensor out /*f32, row.shape*/) = 0;
};

// Undoes llama.cpp's permutation: stored row (head, i, half) is row (head, half, i).
void restore_row_order(Tensor w, std::int64_t heads) {
  const std::int64_t d_head = w.rows() / heads, width = w.width();
  std::vector<float> head(static_cast<std::size_t>(d_head * width));
  for (std::int64_t h = 0; h < heads; ++h) {
    float* rows = w.row(h * d_head);
    std::copy(rows, rows + d_head * width, head.begin());
    for (std::int64_t i = 0; i < d_head / 2; ++i)
      for (std::int64_t half = 0; half < 2; ++half)
        std::copy_n(head.begin() + (2 * i + half) * width, width, rows + (half * (d_head / 2) + i) * width);
  }
}

void refuse_nonfinite(const FileTensor& tensor, Tensor values, std::int64_t first_element = 0) {
  const float* x = values.f32();
  const std::int64_t n = values.count();
  float sum = 0;  // NaN or infinity times zero is NaN and stays
#pragma omp parallel for simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * 0.0f;
  if (sum == 0) return;
  std::int64_t bad = 0;
  while (std::isfinite(x[bad])) ++bad;
  fail_hint("the weights are damaged; fetch the file again",
            "{}: tensor {}: element {} is {}, expected a finite number", tensor.file.string(), tensor.name,
            first_element + bad, x[bad]);
}

// The embedding table stays in the file, read row by row: its values are looked at once, some rows at a time.
void check_embedding(const FileTensor& tensor, Backend& backend) {
  const std::int64_t width = tensor.view.width();
  const std::int64_t at_once = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / width);
  const OwnedTensor values = make_tensor(DType::f32, {at_once * width});
  for (std::int64_t first = 0; first < tensor.view.rows(); first += at_once) {
    const std::int64_t n = std::min(at_once, tensor.view.rows() - first);
    const Tensor some = values.view.slice_rows(0, n * width);
    backend.dequantise(some, tensor.view.slice_rows(first, n));
    refuse_nonfinite(tensor, some, first * width);
  }
}

class FileWeights : public WeightSource {
 public:
  FileWeights(const ModelFiles& files, Backend& backend) : files_(files), backend_(backend) {}

  void read(const TensorRow& row, Tensor out) override {
    const FileTensor& tensor = find_tensor(files_, row);
    Tensor flat(out.data, DType::f32, {out.count()});
    backend_.dequantise(flat, tensor.view);
    refuse_nonfinite(tensor, flat);
    if (row.order == RowOrder::interleaved_pairs) restore_row_order(out, row.heads);
  }

 private:
  const ModelFiles& files_;
  Backend& backend_;
};

class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(std::uint64_t seed) : generator_(seed) {}

  void read(const TensorRow& row, Tensor out) override {
    const bool norm = row.shape.size() == 1 &&
                      (row.part == Part::ln1 || row.part == Part::ln2 || row.part == Part::ln_final);
    const float scale = norm ? 0.1f : 1 / std::sqrt(static_cast<float>(row.shape.back()));
    std::normal_distribution<float> normal(norm ? 1.0f : 0.0f, scale);
    // A short pattern repeated with a stride: drawing billions of normals would take longer than the
    // benchmark.
    std::vector<float> pattern(65521);
    for (float& x : pattern) x = normal(generator_);
    for (std::int64_t i = 0; i < out.count(); ++i)
      out.f32()[i] = pattern[static_cast<std::size_t>(i) % pattern.size()];
  }

 private:
  std::mt19937_64 generator_;
};

// Builds Model's weights from the rows of the tensor table.
class Builder {
 public:
  Builder(std::vector<TensorRow> table, WeightSource& source, const LoadOptions& options, Backend& backend)
      : table_(std::move(table)), source_(source), options_(options), backend_(backend) {
    rows_per_layer_ = 0;
    for (const TensorRow& row : table_) rows_per_layer_ += row.layer == 0;
  }

  OwnedTensor vector(std::initializer_list<Part> parts, int layer) { return stack(parts, layer); }

  std::unique_ptr<Weight> weight(std::initializer_list<Part> parts, int layer) {
    OwnedTensor w = stack(parts, layer);
    if (options_.weights != WeightFormat::as_stored && is_block_linear(*parts.begin()))
      fake_quantise(w.view, options_.weights);
    return backend_.prepare_weight(w.view, options_.precision);
  }

  BlockWeights block(int l) {
    BlockWeights b;
    b.ln1 = vector({Part::ln1}, l);
    b.qkv = weight({Part::q, Part::k, Part::v}, l);
    b.qkv_bias = vector({Part::q_bias, Part::k_bias, Part::v_bias}, l);
    b.attn_out = weight({Part::attn_out}, l);
    b.attn_out_bias = vector({Part::attn_out_bias}, l);
    b.ln2 = vector({Part::ln2}, l);
    b.gate_up = weight({Part::gate, Part::up}, l);
    b.gate_up_bias = vector({Part::gate_bias, Part::up_bias}, l);
    b.down = weight({Part::down}, l);
    b.down_bias = vector({Part::down_bias}, l);
    return b;
  }

 private:
  const TensorRow& row(Part part, int layer) const {
    const std::size_t first = layer < 0 ? 0 : 1 + static_cast<std::size_t>(layer * rows_per_layer_);
    for (std::size_t i = first; i < table_.size(); ++i)
      if (table_[i].part == part && table_[i].layer == layer) return table_[i];
    fail("the tensor table has no part {} in layer {}", static_cast<int>(part), layer);
  }

  // Tensors below each other: f32 [sum of rows, K], or empty if the model has none of them.
  OwnedTensor stack(std::initializer_list<Part> parts, int layer) {
    std::int64_t rows = 0, width = 1;
    for (Part part : parts) {
      const TensorRow& r = row(part, layer);
      if (!r.present) return {};
      rows += r.shape[0];
      width = r.shape.size() > 1 ? r.shape[1] : 1;
    }
    const bool matrix = row(*parts.begin(), layer).shape.size() > 1;
    OwnedTensor out = matrix ? make_tensor(DType::f32, {rows, width}) : make_tensor(DType::f32, {rows});
    std::int64_t at = 0;
    for (Part part : parts) {
      const TensorRow& r = row(part, layer);
      source_.read(r, out.view.slice_rows(at, r.shape[0]));
      at += r.shape[0];
    }
    return out;
  }

  std::vector<TensorRow> table_;
  WeightSource& source_;
  const LoadOptions& options_;
  Backend& backend_;
  int rows_per_layer_ = 0;
};

void build(Model& model, std::vector<TensorRow> table, WeightSource& source, const LoadOptions& options,
           Backend& backend) {
  Builder builder(std::move(table), source, options, backend);
  for (int l = 0; l < static_cast<int>(model.spec.n_layers); ++l) model.blocks.push_back(builder.block(l));
  model.ln_final = builder.vector({Part::ln_final}, -1);
  if (options.head) model.head = builder.weight({model.spec.tied_head ? Part::embed : Part::head}, -1);
}

std::string fingerprint_of(const ModelSpec& spec, const ModelFiles& files,
                           const std::vector<TensorRow>& table) {
  std::string text = spec.to_json().dump() + "\n";
  std::vector<std::uint32_t> sums(table.size());
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (!table[i].present) continue;
    const Tensor& view = files.find(table[i].name)->view;
    sums[i] = crc32c(view.data, static_cast<std::size_t>(bytes_of(view.dtype, view.count())));
  }
  for (std::size_t i = 0; i < table.size(); ++i)
    if (table[i].present)
      text +=
          fmt::format("{} {} {:08x}\n", table[i].name, files.find(table[i].name)->view.describe(), sums[i]);
  return sha256_hex(text);
}

}  // namespace

Model Model::load(const std::filesystem::path& path, const LoadOptions& options, Backend& backend) {
  ModelFiles files = ModelFiles::open(path);
  const Family& family = family_of(files);
  ModelSpec spec = read_spec(files, options.ignored);
  std::vector<TensorRow> table = family.tensors(spec, files.format());
  check_tensors(files, table);

  Model model{.spec = std::move(spec),
              .name = files.name(),
              .fingerprint = {},
              .files = std::move(files),
              .embed = {},
              .random_embed = {},
              .blocks = {},
              .ln_final = {},
              .head = {}};
  model.fingerprint = fingerprint_of(model.spec, model.files, table);
  const FileTensor& embed = find_tensor(model.files, table.front());
  check_embedding(embed, backend);
  model.embed = embed.view;
  FileWeights source(model.files, backend);
  build(model, std::move(table), source, options, backend);
  return model;
}

Model Model::random(const ModelSpec& spec, const LoadOptions& options, std::uint64_t seed, Backend& backend) {
  Model model{.spec = spec,
              .name = spec.family + "-random",
              .fingerprint = fmt::format("random-{}", seed),
              .files = {},
              .embed = {},
              .random_embed = {},
              .blocks = {},
              .ln_final = {},
              .head = {}};
  RandomWeights source(seed);
  std::vector<TensorRow> table = llama_tensors(spec, ModelFormat::hugging_face);
  model.random_embed = make_tensor(DType::f32, {spec.vocab, spec.d_model});
  source.read(table.front(), model.random_embed.view);
  model.embed = model.random_embed.view;
  build(model, std::move(table), source, options, backend);
  return model;
}

std::int64_t Model::weight_bytes() const {
  std::int64_t bytes = head ? head->bytes() : 0;
  for (const BlockWeights& b : blocks)
    bytes += b.qkv->bytes() + b.attn_out->bytes() + b.gate_up->bytes() + b.down->bytes();
  return bytes;
}

std::int64_t block_linear_macs(const ModelSpec& spec) {
  std::int64_t macs = 0;
  for (const TensorRow& row : llama_tensors(spec, ModelFormat::hugging_face))
    if (row.present && is_block_linear(row.part)) macs += row.shape[0] * row.shape[1];
  return macs;
}

std::int64_t parameter_count(const ModelSpec& spec) {
  std::int64_t count = 0;
  for (const TensorRow& row : llama_tensors(spec, ModelFormat::hugging_face))
    if (row.present) count += row.shape[0] * (row.shape.size() > 1 ? row.shape[1] : 1);
  return count;
}

}  // namespace sonde
