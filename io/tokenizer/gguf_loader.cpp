// A vocabulary in GGUF metadata; llama.cpp's results on it are the truth (docs/tokenizers.md).
#include <algorithm>

#include "io/file_util.h"
#include "io/gguf.h"
#include "io/hash.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/gguf_token_types.h"
#include "io/tokenizer/load.h"
#include "io/tokenizer/pipeline.h"
#include "io/tokenizer/vocabulary.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr char kHint[] = "token ids can be given in place of text: --ids";

// What llama.cpp makes of tokenizer.ggml.pre. Names of one row are one pre-tokenizer to it.
struct PreTokenizerKind {
  std::string_view name;
  enum Split { gpt2, digits_gpt2, llama3, qwen2 } split;
  bool clean_spaces = true, ignore_merges = false, add_bos = false;
};
constexpr PreTokenizerKind kKinds[] = {
    {"gpt-2", PreTokenizerKind::gpt2},
    {"phi-2", PreTokenizerKind::gpt2},
    {"gigachat", PreTokenizerKind::gpt2},
    {"mellum", PreTokenizerKind::gpt2},
    {"a.x-4.0", PreTokenizerKind::gpt2},
    {"exaone4", PreTokenizerKind::gpt2},
    {"mpt", PreTokenizerKind::gpt2},
    {"olmo", PreTokenizerKind::gpt2},
    {"jais", PreTokenizerKind::gpt2},
    {"trillion", PreTokenizerKind::gpt2, false},
    {"granite-docling", PreTokenizerKind::gpt2, false},
    {"smollm", PreTokenizerKind::digits_gpt2, false},
    {"command-r", PreTokenizerKind::digits_gpt2, false},
    {"starcoder", PreTokenizerKind::digits_gpt2},
    {"refact", PreTokenizerKind::digits_gpt2},
    {"codeshell", PreTokenizerKind::digits_gpt2},
    {"exaone", PreTokenizerKind::digits_gpt2},
    {"minerva-7b", PreTokenizerKind::digits_gpt2},
    {"llama-bpe", PreTokenizerKind::llama3, true, true, true},
    {"llama3", PreTokenizerKind::llama3, true, true, true},
    {"llama-v3", PreTokenizerKind::llama3, true, true, true},
    {"falcon3", PreTokenizerKind::llama3, true, true, true},
    {"falcon-h1", PreTokenizerKind::llama3, true, true, true},
    {"pixtral", PreTokenizerKind::llama3, true, true, true},
    {"midm-2.0", PreTokenizerKind::llama3, true, true, true},
    {"lfm2", PreTokenizerKind::llama3, true, true, true},
    {"qwen2", PreTokenizerKind::qwen2, false},
    {"deepseek-r1-qwen", PreTokenizerKind::qwen2, false},
};

const PreTokenizerKind& find_kind(const Gguf& gguf) {
  const std::string file = gguf.path().string();
  const std::string& model = gguf.text("tokenizer.ggml.model");
  if (model != "gpt2")
    fail_hint(kHint,
              "{}: key tokenizer.ggml.model: found \"{}\", expected gpt2 (only byte-level BPE is supported)",
              file, printable(model));
  const std::string pre = gguf.has("tokenizer.ggml.pre") ? gguf.text("tokenizer.ggml.pre") : "";
  for (const PreTokenizerKind& kind : kKinds)
    if (kind.name == pre) return kind;
  std::string names;
  for (const PreTokenizerKind& kind : kKinds)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", kind.name);
  fail_hint(kHint, "{}: key tokenizer.ggml.pre: found {}, expected one of {}", file,
            pre.empty() ? "none" : fmt::format("\"{}\"", printable(pre)), names);
}

void add_splitters(const PreTokenizerKind& kind, TokenizerParts& parts) {
  const CharClasses& classes = CharClasses::llama_cpp();
  if (kind.split == PreTokenizerKind::digits_gpt2)
    parts.pre_tokenizers.push_back(make_digit_splitter(classes, DigitRuns::one_by_one));
  if (kind.split == PreTokenizerKind::gpt2 || kind.split == PreTokenizerKind::digits_gpt2)
    parts.pre_tokenizers.push_back(make_gpt2_splitter(classes));
  else
    parts.pre_tokenizers.push_back(
        make_llama3_splitter(classes, kind.split == PreTokenizerKind::llama3 ? 3 : 1, LongS::letter));
}

std::vector<std::string> read_tokens(const Gguf& gguf, TokenIndex& index) {
  std::vector<std::string> tokens = gguf.texts("tokenizer.ggml.tokens");
  const std::string file = gguf.path().string();
  if (tokens.empty()) fail("{}: key tokenizer.ggml.tokens: found no tokens, expected a vocabulary", file);
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) tokens[id] = fmt::format("[EMPTY_{}]", id);
    const auto [other, is_new] = index.emplace(tokens[id], static_cast<std::int32_t>(id));
    if (!is_new)
      fail("{}: key tokenizer.ggml.tokens: found \"{}\" as ids {} and {}, expected each token once", file,
           printable(tokens[id]), other->second, id);
  }
  return tokens;
}

ByteLevelBpeSpec read_model(const Gguf& gguf, const PreTokenizerKind& kind, const TokenIndex& index) {
  ByteLevelBpeSpec spec;
  const std::vector<std::string>& merges = gguf.texts("tokenizer.ggml.merges");
  spec.merges = MergeTable(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const std::size_t space = merge.empty() ? std::string_view::npos : merge.find(' ', 1);
    if (space == std::string_view::npos)
      fail("{}: key tokenizer.ggml.merges[{}]: found \"{}\", expected two tokens with a space between",
           gguf.path().string(), i, printable(merge));
    add_merge(spec.merges, index, merge.substr(0, space), merge.substr(space + 1),
              static_cast<std::uint32_t>(i), Duplicate::first_counts, gguf.path().string(),
              "tokenizer.ggml.merges");
  }
  spec.byte_ids = find_byte_ids(index);
  spec.missing = ByteLevelBpeSpec::MissingByte::keep_gap;
  spec.ignore_merges = kind.ignore_merges;
  if (spec.ignore_merges) spec.whole_words = find_whole_words(index);
  return spec;
}

bool flag(const Gguf& gguf, const char* key, bool otherwise) {
  return gguf.has(key) ? gguf.boolean(key) : otherwise;
}

// A special id of the metadata; without the key llama.cpp takes token 11 of a vocabulary of this kind, which
// only matters where it is added around a text.
std::int32_t special_id(const Gguf& gguf, const char* key, bool is_added, std::size_t tokens) {
  if (!gguf.has(key)) return is_added && tokens > 11 ? 11 : -1;
  const std::int64_t id = gguf.integer(key);
  if (id < 0 || id >= static_cast<std::int64_t>(tokens))
    fail("{}: key {}: found {}, expected a token id below {}", gguf.path().string(), key, id, tokens);
  return static_cast<std::int32_t>(id);
}

// Feeds a metadata value to a hash, lengths first so that no two values give the same bytes.
struct HashValue {
  Sha256& hash;
  void operator()(const std::string& value) const {
    hash.update(fmt::format("{}:", value.size()));
    hash.update(value);
  }
  void operator()(std::int64_t value) const { hash.update(fmt::format("{};", value)); }
  void operator()(double value) const { hash.update(fmt::format("{};", value)); }
  void operator()(bool value) const { hash.update(value ? "true;" : "false;"); }
  template <class T>
  void operator()(const std::vector<T>& values) const {
    hash.update(fmt::format("{}[", values.size()));
    for (const auto& value : values) (*this)(static_cast<const T&>(value));
  }
};

// All metadata of the tokenizer but its chat template.
std::string hash_metadata(const Gguf& gguf) {
  Sha256 hash;
  for (const std::string& key : gguf.keys()) {
    if (!key.starts_with("tokenizer.") || key.find("chat_template") != std::string::npos) continue;
    HashValue{hash}(key);
    std::visit(HashValue{hash}, gguf.value(key));
  }
  return hash.finish_hex();
}

}  // namespace

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& path) {
  const auto gguf = Gguf::open(path);
  const PreTokenizerKind& kind = find_kind(*gguf);
  refuse_renamed_specials(*gguf);

  TokenizerParts parts;
  TokenIndex index;
  const std::vector<std::string> tokens = read_tokens(*gguf, index);
  const std::vector<GgufTokenType> types = read_token_types(*gguf, tokens, index);
  add_splitters(kind, parts);
  parts.model = make_byte_level_bpe(read_model(*gguf, kind, index));
  parts.added = make_llama_cpp_finder(special_tokens_in_search_order(tokens, types, path.string()));

  const bool add_bos = flag(*gguf, "tokenizer.ggml.add_bos_token", kind.add_bos);
  const bool add_eos = flag(*gguf, "tokenizer.ggml.add_eos_token", false);
  parts.bos = special_id(*gguf, "tokenizer.ggml.bos_token_id", add_bos, tokens.size());
  parts.eos = special_id(*gguf, "tokenizer.ggml.eos_token_id", add_eos, tokens.size());
  if (add_bos && parts.bos >= 0) parts.prefix = {parts.bos};
  if (add_eos && parts.eos >= 0) parts.suffix = {parts.eos};

  const LlamaCppDecoding decoding{kind.clean_spaces, flag(*gguf, "tokenizer.ggml.add_space_prefix", false),
                                  add_bos ? parts.bos : -1, add_eos ? parts.eos : -1};
  parts.decoder = make_llama_cpp_decoder(make_decoded_tokens(tokens, types, path.string()), decoding);
  parts.vocab_size = static_cast<std::int64_t>(tokens.size());
  parts.description =
      fmt::format("byte-level BPE, {} tokens, GGUF, pre-tokenizer {}", tokens.size(), kind.name);
  parts.fingerprint = hash_metadata(*gguf);
  parts.source = path.string();
  return make_pipeline(std::move(parts));
}

}  // namespace sonde
