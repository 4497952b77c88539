#include "models/model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <tuple>

#include "io/hash.h"
#include "models/family.h"
#include "models/tensor_table.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

// A tensor's values in float32, wherever they come from: a file, or a random generator.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual void read(const TensorRow& row, Tensor out /*f32, row.shape*/) = 0;
  // The rows as they are stored, or none where they can only be read.
  virtual std::vector<RawRow> raw_rows(const TensorRow&) { return {}; }
};

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

// values [n] as the file stores them become those of the row's shape.
void restore_order(const TensorRow& row, Tensor values) {
  const std::int64_t rows = row.shape[0], width = values.count() / rows;
  float* out = values.f32();
  if (row.transposed || row.order != RowOrder::plain) {
    const std::vector<float> stored(out, out + values.count());
    const auto at = [&](std::int64_t r, std::int64_t c) {
      return row.transposed ? c * rows + r : stored_row(row, r) * width + c;
    };
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < width; ++c)
        out[r * width + c] = stored[static_cast<std::size_t>(at(r, c))];
  }
  if (row.plus != 0)
    for (std::int64_t i = 0; i < values.count(); ++i) out[i] += row.plus;
}

// What the file stores of a row: the tensor, or an expert's slice of it.
Tensor stored_view(const FileTensor& tensor, const TensorRow& row) {
  return row.stacked ? tensor.view.slice_rows(row.expert, 1) : tensor.view;
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

class FileWeights : public WeightSource {
 public:
  FileWeights(const ModelFiles& files, std::int64_t experts)
      : files_(files), experts_(experts), host_(make_cpu_backend()) {}

  void read(const TensorRow& row, Tensor out) override {
    const FileTensor& tensor = find_tensor(files_, row, experts_);
    const Tensor flat(out.data, DType::f32, {out.count()});
    host_->dequantise(flat, stored_view(tensor, row));
    refuse_nonfinite(tensor, flat);
    restore_order(row, flat);
  }

  std::vector<RawRow> raw_rows(const TensorRow& row) override {
    const FileTensor& tensor = find_tensor(files_, row, experts_);
    if (!is_quantised(tensor.view.dtype) || row.transposed || row.plus != 0) return {};
    const Tensor view = stored_view(tensor, row);
    check_rows(tensor, view, row.shape[1]);
    const std::int64_t bytes = bytes_of(view.dtype, row.shape[1]);
    std::vector<RawRow> rows;
    for (std::int64_t r = 0; r < row.shape[0]; ++r)
      rows.push_back({view.data + stored_row(row, r) * bytes, view.dtype});
    return rows;
  }

 private:
  // The values are looked at once, some rows at a time.
  void check_rows(const FileTensor& tensor, Tensor view, std::int64_t width) {
    const Tensor rows(view.data, view.dtype, {view.count() / width, width});
    const std::int64_t at_once = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / width);
    const OwnedTensor values = make_tensor(DType::f32, {at_once * width});
    for (std::int64_t first = 0; first < rows.rows(); first += at_once) {
      const std::int64_t n = std::min(at_once, rows.rows() - first);
      const Tensor some = values.view.slice_rows(0, n * width);
      host_->dequantise(some, rows.slice_rows(first, n));
      refuse_nonfinite(tensor, some, first * width);
    }
  }

 public:
  void check_embedding(const FileTensor& tensor) { check_rows(tensor, tensor.view, tensor.view.width()); }

 private:
  const ModelFiles& files_;
  std::int64_t experts_;
  std::unique_ptr<Backend> host_;  // reads what the host has mapped, whatever runs the model
};

class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(std::uint64_t seed) : generator_(seed) {}

  void read(const TensorRow& row, Tensor out) override {
    const bool norm = is_norm(row.part);
    const float scale =
        norm || row.shape.size() == 1 ? 0.1f : 1 / std::sqrt(static_cast<float>(row.shape.back()));
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
  Builder(const ModelSpec& spec, const std::vector<TensorRow>& table, WeightSource& source,
          const LoadOptions& options, Backend& backend)
      : spec_(spec), source_(source), options_(options), backend_(backend) {
    for (const TensorRow& row : table) rows_[{row.layer, row.expert, row.part}].push_back(&row);
  }

  OwnedTensor tensor(Part part, int layer = -1) { return stack_on_device({part}, layer); }
  NormWeights norm(Part weight, Part bias, int layer = -1) {
    return {tensor(weight, layer), tensor(bias, layer)};
  }
  NormWeights norm(Part weight, int layer) { return {tensor(weight, layer), {}}; }

  // Tensors below each other as one weight, or null if the model has none of them.
  std::unique_ptr<Weight> weight(std::initializer_list<Part> parts, int layer = -1, int expert = -1) {
    const std::vector<const TensorRow*> rows = rows_of(parts, layer, expert);
    if (rows.empty()) return nullptr;
    const bool linear = is_block_linear(rows[0]->part);
    if (options_.in_memory == WeightsInMemory::quantised &&
        (linear || rows[0]->part == Part::head || rows[0]->part == Part::embed)) {
      std::vector<RawRow> raw;
      for (const TensorRow* row : rows) {
        const std::vector<RawRow> some = source_.raw_rows(*row);
        if (some.empty()) raw.clear();
        if (some.empty()) break;
        raw.insert(raw.end(), some.begin(), some.end());
      }
      if (!raw.empty()) return backend_.keep_weight(std::move(raw), rows[0]->shape[1], options_.precision);
    }
    OwnedTensor w = stack(rows);
    if (options_.weights != WeightFormat::as_stored && linear) fake_quantise(w.view, options_.weights);
    return backend_.prepare_weight(w.view, options_.precision);
  }

  BlockWeights block(int l) {
    BlockWeights b;
    b.ln1 = norm(Part::ln1, Part::ln1_bias, l);
    b.ln1_post = norm(Part::ln1_post, l);
    b.ln2 = norm(Part::ln2, Part::ln2_bias, l);
    b.ln2_post = norm(Part::ln2_post, l);
    b.qkv = weight({Part::qkv, Part::q, Part::k, Part::v}, l);
    b.qkv_bias = stack_on_device({Part::qkv_bias, Part::q_bias, Part::k_bias, Part::v_bias}, l);
    b.q_norm = tensor(Part::q_norm, l);
    b.k_norm = tensor(Part::k_norm, l);
    b.attn_out = weight({Part::attn_out}, l);
    b.attn_out_bias = tensor(Part::attn_out_bias, l);
    b.router = weight({Part::router}, l);
    const int experts = spec_.has_experts(l) ? static_cast<int>(spec_.n_experts) : 0;
    for (int e = experts > 0 ? 0 : -1; e < experts; ++e) {
      MlpWeights& mlp = b.mlps.emplace_back();
      mlp.up = weight({Part::gate_up, Part::gate, Part::up}, l, e);
      mlp.up_bias = stack_on_device({Part::gate_bias, Part::up_bias}, l, e);
      mlp.down = weight({Part::down}, l, e);
      mlp.down_bias = stack_on_device({Part::down_bias}, l, e);
    }
    return b;
  }

 private:
  std::vector<const TensorRow*> rows_of(std::initializer_list<Part> parts, int layer, int expert = -1) const {
    std::vector<const TensorRow*> rows;
    for (Part part : parts)
      if (const auto at = rows_.find({layer, expert, part}); at != rows_.end())
        rows.insert(rows.end(), at->second.begin(), at->second.end());
    return rows;
  }

  OwnedTensor stack_on_device(std::initializer_list<Part> parts, int layer, int expert = -1) {
    return backend_.on_device(stack(rows_of(parts, layer, expert)));
  }

  // Tensors below each other: f32 [sum of rows, K] or [sum], empty without any.
  OwnedTensor stack(const std::vector<const TensorRow*>& rows) {
    if (rows.empty()) return {};
    const bool matrix = rows[0]->shape.size() > 1;
    const std::int64_t width = matrix ? rows[0]->shape[1] : 1;
    std::int64_t count = 0;
    for (const TensorRow* row : rows) count += row->shape[0];
    OwnedTensor out = matrix ? make_tensor(DType::f32, {count, width}) : make_tensor(DType::f32, {count});
    std::int64_t at = 0;
    for (const TensorRow* row : rows) {
      source_.read(*row, out.view.slice_rows(at, row->shape[0]));
      at += row->shape[0];
    }
    return out;
  }

  const ModelSpec& spec_;
  std::map<std::tuple<int, int, Part>, std::vector<const TensorRow*>> rows_;  // layer, expert, part
  WeightSource& source_;
  const LoadOptions& options_;
  Backend& backend_;
};

void build(Model& model, const std::vector<TensorRow>& table, WeightSource& source,
           const LoadOptions& options, Backend& backend) {
  Builder builder(model.spec, table, source, options, backend);
  model.positions = builder.tensor(Part::positions);
  for (int l = 0; l < static_cast<int>(model.spec.n_layers); ++l) model.blocks.push_back(builder.block(l));
  model.ln_final = builder.norm(Part::ln_final, Part::ln_final_bias);
  if (options.head) model.head = builder.weight({model.spec.tied_head ? Part::embed : Part::head});
}

std::string fingerprint_of(const ModelSpec& spec, const ModelFiles& files,
                           const std::vector<TensorRow>& table) {
  std::vector<const FileTensor*> tensors;
  for (const TensorRow& row : table)
    if (row.expert <= 0 || !row.stacked) tensors.push_back(&find_tensor(files, row, spec.n_experts));
  std::vector<std::uint32_t> sums(tensors.size());
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& view = tensors[i]->view;
    sums[i] = crc32c(view.data, static_cast<std::size_t>(bytes_of(view.dtype, view.count())));
  }
  std::string text = spec.to_json().dump() + "\n";
  for (std::size_t i = 0; i < tensors.size(); ++i)
    text += fmt::format("{} {} {:08x}\n", tensors[i]->name, tensors[i]->view.describe(), sums[i]);
  return sha256_hex(text);
}

}  // namespace

Model Model::load(const std::filesystem::path& path, const LoadOptions& options, Backend& backend) {
  const PhaseScope scope(Phase::load);
  ModelFiles files = ModelFiles::open(path);
  ModelSpec spec = read_spec(files, options.ignored);
  const std::vector<TensorRow> table = tensors_of(files, spec);
  check_tensors(files, table, spec);
  if (options.in_memory == WeightsInMemory::quantised && options.weights != WeightFormat::as_stored)
    throw UsageError("--weights-in-memory quantised keeps the file's weights; --weights changes them");

  Model model{.spec = std::move(spec),
              .precision = options.precision,
              .name = files.name(),
              .fingerprint = {},
              .files = std::move(files),
              .embed = {},
              .embed_memory = {},
              .blocks = {},
              .positions = {},
              .ln_final = {},
              .head = {}};
  model.fingerprint = fingerprint_of(model.spec, model.files, table);
  FileWeights source(model.files, model.spec.n_experts);
  const FileTensor& embed = find_tensor(model.files, table.front(), 0);
  source.check_embedding(embed);
  model.embed = backend.on_device(embed.view, model.embed_memory.buffer);
  build(model, table, source, options, backend);
  return model;
}

Model Model::random(const ModelSpec& spec, const LoadOptions& options, std::uint64_t seed, Backend& backend) {
  Model model{.spec = spec,
              .precision = options.precision,
              .name = spec.family + "-random",
              .fingerprint = fmt::format("random-{}", seed),
              .files = {},
              .embed = {},
              .embed_memory = {},
              .blocks = {},
              .positions = {},
              .ln_final = {},
              .head = {}};
  RandomWeights source(seed);
  const std::vector<TensorRow> table = name_tensors(spec, gguf_names());
  model.embed_memory = make_tensor(DType::f32, {spec.vocab, spec.d_model});
  source.read(table.front(), model.embed_memory.view);
  model.embed_memory = backend.on_device(std::move(model.embed_memory));
  model.embed = model.embed_memory.view;
  build(model, table, source, options, backend);
  return model;
}

std::int64_t Model::weight_bytes() const {
  std::int64_t bytes = head ? head->bytes() : 0;
  for (const BlockWeights& b : blocks) {
    bytes += b.qkv->bytes() + b.attn_out->bytes() + (b.router ? b.router->bytes() : 0);
    for (const MlpWeights& mlp : b.mlps) bytes += mlp.up->bytes() + mlp.down->bytes();
  }
  return bytes;
}

std::int64_t block_linear_macs(const ModelSpec& spec) {
  std::int64_t macs = 0;
  for (const TensorRow& row : name_tensors(spec, gguf_names()))
    if (is_block_linear(row.part) && row.expert < spec.experts_per_token) macs += row.shape[0] * row.shape[1];
  return macs;
}

std::int64_t parameter_count(const ModelSpec& spec) {
  std::int64_t count = 0;
  for (const TensorRow& row : name_tensors(spec, gguf_names()))
    count += row.shape[0] * (row.shape.size() > 1 ? row.shape[1] : 1);
  return count;
}

}  // namespace sonde
