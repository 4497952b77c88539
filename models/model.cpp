#include "models/model.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "distributed/agreement.h"
#include "io/hash.h"
#include "models/family.h"
#include "models/tensor_group.h"
#include "models/tensor_table.h"
#include "models/weight_source.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

// Builds a rank's weights from the rows of the tensor table.
class Builder {
 public:
  Builder(Model& model, const std::vector<TensorRow>& table, WeightSource& source, const LoadOptions& options,
          Backend& backend)
      : model_(model), source_(source), options_(options), backend_(backend) {
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
    const Part part = rows[0]->part;
    const bool linear = is_block_linear(part);
    const Precision precision = precision_of(part, expert, options_.precision);
    if (options_.in_memory == WeightsInMemory::quantised &&
        (linear || part == Part::head || part == Part::embed))
      if (auto kept = keep(rows)) return kept;
    const Share columns = model_.shard.slab(*rows[0]).columns;
    if (options_.weights == WeightFormat::as_stored || !linear)
      return backend_.prepare_weight(stack(rows, columns).view, precision);
    const OwnedTensor w = stack(rows, {0, rows[0]->shape[1]});  // scales are of whole rows
    fake_quantise(w.view, options_.weights);
    return backend_.prepare_weight(w.view.slice_columns(columns.begin, columns.size()), precision);
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
    if (!model_.spec.has_experts(l)) b.mlps.push_back(mlp(l, -1));
    for (std::int64_t e = model_.shard.experts.begin; b.router && e < model_.shard.experts.end; ++e)
      b.mlps.push_back(mlp(l, static_cast<int>(e)));
    return b;
  }

 private:
  MlpWeights mlp(int l, int expert) {
    MlpWeights mlp;
    mlp.up = weight({Part::gate_up, Part::gate, Part::up}, l, expert);
    mlp.up_bias = stack_on_device({Part::gate_bias, Part::up_bias}, l, expert);
    mlp.down = weight({Part::down}, l, expert);
    mlp.down_bias = stack_on_device({Part::down_bias}, l, expert);
    return mlp;
  }

  std::vector<const TensorRow*> rows_of(std::initializer_list<Part> parts, int layer, int expert = -1) const {
    std::vector<const TensorRow*> rows;
    for (Part part : parts)
      if (const auto at = rows_.find({layer, expert, part}); at != rows_.end())
        rows.insert(rows.end(), at->second.begin(), at->second.end());
    return rows;
  }

  OwnedTensor stack_on_device(std::initializer_list<Part> parts, int layer, int expert = -1) {
    const std::vector<const TensorRow*> rows = rows_of(parts, layer, expert);
    if (rows.empty()) return {};
    OwnedTensor host = stack(rows, model_.shard.slab(*rows[0]).columns);
    return host.view.count() == 0 ? OwnedTensor{} : backend_.on_device(std::move(host));
  }

  // The rows as the file has them, or null where one of them has to be expanded.
  std::unique_ptr<Weight> keep(const std::vector<const TensorRow*>& rows) {
    std::vector<RawRow> raw;
    const Slab first = model_.shard.slab(*rows[0]);
    if (first.columns.size() == 0) return nullptr;
    for (const TensorRow* row : rows) {
      const Slab slab = model_.shard.slab(*row);
      const std::vector<RawRow> some = source_.raw_rows(*row, slab);
      if (some.empty() && slab.row_count() > 0) {
        if (first.columns.size() < row->shape[1]) ++model_.cut_weights;
        return nullptr;
      }
      raw.insert(raw.end(), some.begin(), some.end());
    }
    if (raw.empty()) return nullptr;
    return backend_.keep_weight(std::move(raw), first.columns.size(), options_.precision);
  }

  // This rank's rows of tensors below each other, or these columns of them: f32 [sum of rows, K] or [sum],
  // empty without any tensor.
  OwnedTensor stack(const std::vector<const TensorRow*>& rows, Share columns) {
    if (rows.empty()) return {};
    const bool matrix = rows[0]->shape.size() > 1;
    std::vector<Slab> slabs;
    std::int64_t count = 0;
    for (const TensorRow* row : rows) {
      slabs.push_back(model_.shard.slab(*row));
      slabs.back().columns = columns;
      count += slabs.back().row_count();
    }
    OwnedTensor out =
        matrix ? make_tensor(DType::f32, {count, columns.size()}) : make_tensor(DType::f32, {count});
    std::int64_t at = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int64_t n = slabs[i].row_count();
      source_.read(*rows[i], slabs[i], out.view.slice_rows(at, n));
      at += n;
    }
    return out;
  }

  Model& model_;
  std::map<std::tuple<int, int, Part>, std::vector<const TensorRow*>> rows_;  // layer, expert, part
  WeightSource& source_;
  const LoadOptions& options_;
  Backend& backend_;
};

void build(Model& model, const std::vector<TensorRow>& table, WeightSource& source,
           const LoadOptions& options, Backend& backend) {
  Builder builder(model, table, source, options, backend);
  const Stage& stage = model.stage;
  if (stage.first()) model.positions = builder.tensor(Part::positions);
  for (auto l = static_cast<int>(stage.layers.begin); l < stage.layers.end; ++l)
    model.own_blocks.push_back(builder.block(l));
  if (!stage.last()) return;
  model.ln_final = builder.norm(Part::ln_final, Part::ln_final_bias);
  if (options.run.head) model.head = builder.weight({model.spec.tied_head ? Part::embed : Part::head});
}

// A stored tensor, a stack of experts once.
struct Stored {
  const FileTensor* tensor;
  bool here;  // this stage reads its bytes
};

std::vector<Stored> stored_tensors(const Model& model, const std::vector<TensorRow>& table) {
  std::vector<Stored> tensors;
  for (const TensorRow& row : table)
    if (row.expert <= 0 || !row.stacked)
      tensors.push_back(
          {&find_tensor(model.files, row, model.spec.n_experts), model.stage.fingerprints(row, model.spec)});
  return tensors;
}

// Of some bytes of each tensor, for ranks that read different ones: they shall be of the same files.
std::string sample_of(const std::vector<Stored>& tensors) {
  std::string text;
  for (const auto& [tensor, here] : tensors) {
    const std::int64_t bytes = bytes_of(tensor->view.dtype, tensor->view.count());
    const std::int64_t n = std::min<std::int64_t>(bytes, 1024);
    text += fmt::format("{} {} {:08x}\n", tensor->name, tensor->view.describe(),
                        crc32c(tensor->view.data + (bytes - n) / 2, static_cast<std::size_t>(n)));
  }
  return sha256_hex(text);
}

// The ranks of a stage read a piece each of its tensors.
std::string fingerprint_of(const Model& model, const std::vector<TensorRow>& table, Communicator& ranks,
                           Communicator& stages) {
  const std::vector<Stored> tensors = stored_tensors(model, table);
  for (Communicator* group : {&ranks, &stages})
    if (group->size() > 1)
      agree(*group, "the model", "sha256 " + sample_of(tensors), "give every rank the same MODEL");
  const auto n = static_cast<std::int64_t>(tensors.size());
  const auto piece = [&](std::int64_t i, int rank) {
    const Tensor& view = tensors[static_cast<std::size_t>(i)].tensor->view;
    return share_of(bytes_of(view.dtype, view.count()), rank, ranks.size());
  };
  std::vector<std::int64_t> mine(tensors.size()), sums(tensors.size()),
      all(tensors.size() * static_cast<std::size_t>(ranks.size()));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < n; ++i) {
    const auto& [tensor, here] = tensors[static_cast<std::size_t>(i)];
    const Share bytes = piece(i, ranks.rank());
    if (here)
      mine[static_cast<std::size_t>(i)] =
          crc32c(tensor->view.data + bytes.begin, static_cast<std::size_t>(bytes.size()));
  }
  ranks.all_gather(std::span(all), std::span<const std::int64_t>(mine));
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t sum = 0;
    for (int r = 0; r < ranks.size() && tensors[static_cast<std::size_t>(i)].here; ++r)
      sum = crc32c_join(sum, static_cast<std::uint32_t>(all[static_cast<std::size_t>(r * n + i)]),
                        static_cast<std::uint64_t>(piece(i, r).size()));
    sums[static_cast<std::size_t>(i)] = sum;
  }
  stages.all_reduce(std::span(sums));  // each is one stage's
  std::string text = model.spec.to_json().dump() + "\n";
  for (std::size_t i = 0; i < tensors.size(); ++i)
    text +=
        fmt::format("{} {} {:08x}\n", tensors[i].tensor->name, tensors[i].tensor->view.describe(), sums[i]);
  return sha256_hex(text);
}

// The rows of the embedding that this rank looks up, as the file has them.
Tensor embedding_rows(Model& model, const std::vector<TensorRow>& table, WeightSource& source) {
  const TensorRow& row = table.front();
  const FileTensor& tensor = find_tensor(model.files, row, 0);
  const Share& vocab = model.shard.vocab;
  if (vocab.size() == 0 || !model.stage.first()) return {};
  source.check(row, {{vocab}, {0, row.shape[1]}});
  return tensor.view.slice_rows(vocab.begin, vocab.size());
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

  Model model;
  model.spec = std::move(spec);
  model.precision = options.precision;
  model.name = files.name();
  model.files = std::move(files);
  const auto alone = make_single();
  Communicator& ranks = options.tensor_group ? *options.tensor_group : *alone;
  Communicator& stages = options.stages ? *options.stages : *alone;
  model.tensor_group = options.tensor_group;
  model.stages = options.stages;
  model.device_ranks = join_devices(ranks, backend, model.sums);
  model.stage_devices = StageDevices::join(stages, backend);
  model.shard = TensorShard::of(model.spec, ranks.rank(), ranks.size());
  model.stage = Stage::of(model.spec, stages.rank(), stages.size(), options.run);
  model.fingerprint = fingerprint_of(model, table, ranks, stages);
  const auto source = file_weights(model.files, model.spec.n_experts);
  model.embed = backend.on_device(embedding_rows(model, table, *source), model.embed_memory.buffer);
  build(model, table, *source, options, backend);
  return model;
}

Model Model::random(const ModelSpec& spec, const LoadOptions& options, std::uint64_t seed, Backend& backend) {
  Model model;
  model.spec = spec;
  model.precision = options.precision;
  model.name = spec.family + "-random";
  model.fingerprint = fmt::format("random-{}", seed);
  model.shard = TensorShard::of(spec, 0, 1);
  model.stage = Stage::of(spec, 0, 1, options.run);
  const auto source = random_weights(seed);
  const std::vector<TensorRow> table = name_tensors(spec, gguf_names());
  model.embed_memory = make_tensor(DType::f32, {spec.vocab, spec.d_model});
  source->read(table.front(), model.shard.slab(table.front()), model.embed_memory.view);
  model.embed_memory = backend.on_device(std::move(model.embed_memory));
  model.embed = model.embed_memory.view;
  build(model, table, *source, options, backend);
  return model;
}

const BlockWeights& Model::block(int layer) const {
  sonde_check(stage.has(layer), "layer {} on a stage of {} to {}", layer, stage.layers.begin,
              stage.layers.end);
  return own_blocks[static_cast<std::size_t>(layer - stage.layers.begin)];
}

std::int64_t Model::weight_bytes() const {
  std::int64_t bytes = head ? head->bytes() : 0;
  for (const BlockWeights& b : own_blocks) {
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
