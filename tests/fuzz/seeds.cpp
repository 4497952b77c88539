// Makes the fuzz targets' corpus: fuzz_seeds DIR writes DIR/TARGET/*, small good files and a few near misses.
#include <zlib.h>
#include <zstd.h>

#include <cstdio>
#include <cstring>

#include "io/activation_store.h"
#include "io/file_util.h"
#include "tests/fuzz/toy_tokenizers.h"
#include "tests/io/store_fixture.h"
#include "tests/models/model_folder.h"

namespace {

using namespace sonde;
namespace fs = std::filesystem;

class Seeds {
 public:
  explicit Seeds(fs::path dir) : dir_(std::move(dir)) {}
  void add(const std::string& target, std::string_view bytes, int choice = -1) {
    fs::create_directories(dir_ / target);
    std::string seed = choice < 0 ? "" : std::string(1, static_cast<char>(choice));
    test::write_text(dir_ / target / fmt::format("seed-{:03}", count_++), seed.append(bytes));
  }

 private:
  fs::path dir_;
  int count_ = 0;
};

std::string bytes_of_file(const fs::path& file) { return read_file(file); }

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void put_text(std::string& out, std::string_view text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

// A GGUF model: integer and float metadata, then a tensor of one block of each type.
std::string gguf_model() {
  std::string head = "GGUF", info, data;
  const std::pair<const char*, std::uint32_t> integers[] = {
      {"llama.block_count", 1},          {"llama.embedding_length", 32},
      {"llama.attention.head_count", 2}, {"llama.feed_forward_length", 32},
      {"llama.context_length", 64},      {"general.alignment", 32},
      {"llama.vocab_size", 5},           {"tokenizer.ggml.eos_token_id", 2},
      {"llama.rope.dimension_count", 16}};
  put<std::uint32_t>(head, 3);
  struct Type {
    std::uint32_t id, values, bytes;
  };
  const Type types[] = {{0, 32, 128},   {1, 32, 64},    {2, 32, 18},    {3, 32, 20},
                        {6, 32, 22},    {7, 32, 24},    {8, 32, 34},    {10, 256, 84},
                        {11, 256, 110}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210},
                        {20, 32, 18},   {23, 256, 136}, {30, 32, 64},   {39, 32, 17}};
  const char* const names[] = {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight",
                               "rope_freqs.weight"};
  for (std::size_t i = 0; i < std::size(types); ++i) {
    put_text(info, i < std::size(names) ? names[i] : fmt::format("blk.0.t{}.weight", i));
    put<std::uint32_t>(info, 1);
    put<std::uint64_t>(info, types[i].values);
    put<std::uint32_t>(info, types[i].id);
    put<std::uint64_t>(info, data.size());
    data.append(types[i].bytes, static_cast<char>(i * 37));
    data.resize((data.size() + 31) / 32 * 32);
  }
  put<std::uint64_t>(head, std::size(types));
  put<std::uint64_t>(head, std::size(integers) + 4);
  for (const auto& [key, value] : integers) {
    put_text(head, key);
    put<std::uint32_t>(head, 4);
    put(head, value);
  }
  put_text(head, "general.architecture");
  put<std::uint32_t>(head, 8);
  put_text(head, "llama");
  put_text(head, "llama.attention.layer_norm_rms_epsilon");
  put<std::uint32_t>(head, 6);
  put(head, 1e-5f);
  put_text(head, "x.doubles");
  put<std::uint32_t>(head, 9);
  put<std::uint32_t>(head, 12);
  put<std::uint64_t>(head, 2);
  put(head, 1.5);
  put(head, -2.5);
  put_text(head, "x.texts");
  put<std::uint32_t>(head, 9);
  put<std::uint32_t>(head, 8);
  put<std::uint64_t>(head, 2);
  put_text(head, "one");
  put_text(head, "");
  head += info;
  head.resize((head.size() + 31) / 32 * 32);
  return head + data;
}

// A config of each family with the keys that are its own; sizes as in the fuzz target's tensors.
std::vector<std::string> configs() {
  const test::TinyLlama tiny{
      .layers = 1, .width = 4, .heads = 1, .kv_heads = 1, .head_width = 4, .mlp_width = 4, .vocab = 5};
  std::vector<std::string> out;
  const auto with = [&](const char* family, const char* more) {
    for (const bool classic : {false, true}) {
      Json config = test::config_of(tiny, classic);
      config["model_type"] = family;
      config.update(Json::parse(more));
      out.push_back(config.dump());
    }
  };
  for (
      const char* rope :
      {R"({"rope_type": "default"})", R"({"rope_type": "linear", "factor": 4.0})",
       R"({"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64})",
       R"({"rope_type": "yarn", "factor": 4.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1, "truncate": false,
            "original_max_position_embeddings": 64, "attention_factor": 1.1})",
       R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64})",
       R"({"rope_type": "longrope", "short_factor": [1, 2], "long_factor": [2, 4], "factor": 4.0,
            "original_max_position_embeddings": 64})"}) {
    with("llama", fmt::format(R"({{"rope_parameters": {0}, "rope_scaling": {0}}})", rope).c_str());
    with("phi3", fmt::format(R"({{"rope_scaling": {}, "partial_rotary_factor": 0.5}})", rope).c_str());
  }
  with("mistral", R"({"sliding_window": 3})");
  with("mixtral", R"({"num_local_experts": 2, "num_experts_per_tok": 1, "router_aux_loss_coef": 0.1})");
  with("qwen2", R"({"use_sliding_window": true, "sliding_window": 3, "max_window_layers": 0})");
  with("qwen3", R"({"layer_types": ["sliding_attention"], "sliding_window": 3})");
  with("qwen3_moe",
       R"({"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 4, "norm_topk_prob":
       true, "decoder_sparse_step": 1, "mlp_only_layers": [0]})");
  with("gemma", R"({"hidden_activation": "gelu_pytorch_tanh"})");
  with("gemma2",
       R"({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 4})");
  with("gemma3_text",
       R"({"sliding_window_pattern": 6, "rope_local_base_freq": 1e4, "query_pre_attn_scalar": 4})");
  with("olmo2", "{}");
  with("cohere", R"({"logit_scale": 0.06, "layer_norm_eps": 1e-5, "use_qk_norm": true})");
  with("stablelm", R"({"partial_rotary_factor": 0.5, "use_qkv_bias": true, "qk_layernorm": true,
       "use_parallel_residual": true, "layer_norm_eps": 1e-5})");
  with("starcoder2", R"({"use_bias": true, "norm_epsilon": 1e-5, "sliding_window": 3})");
  out.push_back(
      R"({"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 64, "n_inner": 4,
    "vocab_size": 5, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "scale_attn_weights": true,
    "scale_attn_by_inverse_layer_idx": false, "reorder_and_upcast_attn": false})");
  out.push_back(
      R"({"model_type": "gpt_neox", "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 4,
    "intermediate_size": 4, "vocab_size": 5, "max_position_embeddings": 64, "rotary_pct": 0.5, "rotary_emb_base":
    10000, "use_parallel_residual": true, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "attention_bias": true})");
  return out;
}

std::string gzip(const std::string& text) {
  std::string packed(text.size() + 100, '\0');
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

void add_tables(Seeds& seeds) {
  const std::string csv = "id,text,label\n1,\"a, \"\"b\"\"\nc\",1\n2,plain,0\n", tsv = "a\tb\n1\t2\n",
                    jsonl =
                        "{\"id\": \"x\", \"ids\": [1, 2], \"text\": \"t\"}\n{\"ids\": [], \"text\": null}\n",
                    plain = "one\n\ntwo\r\nthree";
  const std::string plain_files[] = {csv, tsv, jsonl, plain};
  for (int i = 0; i < 4; ++i) seeds.add("table_fuzz", plain_files[i], i);
  for (int i = 0; i < 3; ++i) seeds.add("table_fuzz", gzip(plain_files[i]), 4 + i);
  seeds.add("table_fuzz", zstd(csv), 7);
  seeds.add("table_fuzz", zstd(jsonl), 8);
  seeds.add("table_fuzz", zstd(plain) + zstd(plain), 9);
  for (const char* labels :
       {"1\n0\n1.0\n-0\n1e5", "true\nfalse\ntrue", "train\ntest\ntrain", "a\nb\nc\na", "x"})
    seeds.add("labels_fuzz", labels);
}

void add_edits(Seeds& seeds) {
  for (
      const char* edit :
      {R"([{"site": "blocks.*.hook_resid_post", "op": "replace", "tokens": "last", "value": 1.5}])",
       R"([{"site": "blocks.0.hook_resid_pre", "op": "add", "value": {"file": "v", "tensor": "v"}, "coefficient": 2}])",
       R"([{"site": "blocks.1.attn.hook_z", "op": "zero", "heads": [0, 3], "tokens": [0, -1]}])",
       R"([{"site": "blocks.1.attn.hook_attn_scores", "op": "mask_scores", "keys": "first", "tokens": "every:2"}])",
       R"([{"site": "blocks.2.hook_mlp_out", "op": "clamp", "min": -1, "max": 1},
            {"site": "blocks.2.hook_mlp_out", "op": "scale", "value": 0.5}])",
       R"([{"site": "hook_embed", "op": "project_out", "value": {"file": "v", "tensor": "v"}},
            {"site": "blocks.0.hook_attn_out", "op": "mean_ablate", "value": {"store": "s", "site": "x"}}])"})
    seeds.add("edits_fuzz", edit);
}

void add_models(Seeds& seeds) {
  const fuzz::Folder folder;
  const test::TinyLlama tiny{
      .layers = 1, .width = 2, .heads = 1, .kv_heads = 1, .head_width = 2, .mlp_width = 2};
  test::write_safetensors(folder.path() / "m", test::stored_weights(tiny, 1));
  seeds.add("safetensors_fuzz", bytes_of_file(folder.path() / "m"));
  test::write_safetensors(folder.path() / "m", {{"a", {"BF16", {2, 0, 3}, ""}}, {"b", {"U8", {}, "x"}}});
  seeds.add("safetensors_fuzz", bytes_of_file(folder.path() / "m"));

  seeds.add("gguf_fuzz", gguf_model());
  for (const std::string& file : fuzz::toy_tokenizer_files()) {
    seeds.add("tokenizer_fuzz", file);
    if (file.starts_with("GGUF")) seeds.add("gguf_fuzz", file);
  }
  for (const std::string& config : configs()) seeds.add("config_fuzz", config, 0);
  seeds.add("config_fuzz",
            R"({"metadata": {}, "weight_map": {"model.norm.weight": "a.safetensors", "x": "../b"}})", 1);
  seeds.add("config_fuzz", R"({"eos_token_id": [1, 2]})", 2);
  for (int i = 0; i < 4; ++i)
    seeds.add("text_fuzz", "abc abcab aaaa's 12345 \xe4\xb8\xad\r\n\n \xff <s> <pad> x", i);
}

void add_store(Seeds& seeds) {
  const fuzz::Folder folder;
  test::Recording(DType::f32, 3).write(folder.path() / "store", 16);
  int choice = 0;
  for (const char* file :
       {"manifest.json", "shards.jsonl", "documents.jsonl", "index.h5", "shards/shard-000000.h5"})
    seeds.add("store_fuzz", bytes_of_file(folder.path() / "store" / file), choice++);
  for (const char* file : {"index.h5", "shards/shard-000000.h5"})
    seeds.add("h5_fuzz", bytes_of_file(folder.path() / "store" / file));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: fuzz_seeds DIR\n", stderr), 2;
  Seeds seeds(argv[1]);
  add_models(seeds);
  add_tables(seeds);
  add_edits(seeds);
  add_store(seeds);
  return 0;
}
