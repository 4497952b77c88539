// A vocabulary in GGUF metadata; llama.cpp's results on it are the truth (docs/tokenizers.md).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "io/file_util.h"
#include "io/gguf.h"
#include "io/hash.h"
#include "io/tokenizer/byte_level_bpe.h"
#include "io/tokenizer/gguf_token_types.h"
#include "io/tokenizer/llama_splitters.h"
#include "io/tokenizer/load.h"
#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/pipeline.h"
#include "io/tokenizer/score_bpe.h"
#include "io/tokenizer/ugm_normalizer.h"
#include "io/tokenizer/unigram.h"
#include "io/tokenizer/vocabulary.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr char kHint[] = "token ids can be given in place of text: --ids";

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

bool flag(const Gguf& gguf, const char* key, bool otherwise) {
  return gguf.has(key) ? gguf.boolean(key) : otherwise;
}

struct Vocabulary {
  std::vector<std::string> tokens;
  TokenIndex index;
  std::vector<GgufTokenType> types;
  bool is(std::size_t id, int bits) const { return (types[id] & bits) != 0; }
};

std::unique_ptr<TokenModel> read_byte_level_bpe(const Gguf& gguf, const LlamaPreTokenizer& kind,
                                                const TokenIndex& index) {
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
  return make_byte_level_bpe(std::move(spec));
}

std::vector<float> read_scores(const Gguf& gguf, std::size_t tokens) {
  constexpr char kKey[] = "tokenizer.ggml.scores";
  if (!gguf.has(kKey)) return std::vector<float>(tokens);
  const std::string file = gguf.path().string();
  std::vector<float> scores;
  if (std::holds_alternative<std::vector<std::int64_t>>(gguf.value(kKey)))
    for (const std::int64_t score : gguf.integers(kKey)) scores.push_back(static_cast<float>(score));
  else
    for (const double score : gguf.reals(kKey)) scores.push_back(static_cast<float>(score));
  if (scores.size() < tokens)
    fail("{}: key {}: found {} scores, expected one for each of {} tokens", file, kKey, scores.size(),
         tokens);
  for (std::size_t id = 0; id < scores.size(); ++id)
    if (std::isnan(scores[id])) fail("{}: key {}[{}]: found NaN, expected a number", file, kKey, id);
  scores.resize(tokens);
  return scores;
}

// Bytes are <0x00> to <0xFF>, or else the byte itself as a token.
std::array<std::int32_t, 256> read_byte_tokens(const Gguf& gguf, const TokenIndex& index) {
  std::array<std::int32_t, 256> ids = find_byte_tokens(index);
  if (std::ranges::all_of(ids, [](std::int32_t id) { return id < 0; }))
    fail_hint(kHint,
              "{}: key tokenizer.ggml.tokens: found no token <0x00> to <0xFF>, expected one for each byte",
              gguf.path().string());
  for (std::size_t byte = 0; byte < ids.size(); ++byte) {
    const auto itself = index.find(std::string(1, static_cast<char>(byte)));
    if (ids[byte] < 0 && itself != index.end()) ids[byte] = itself->second;
  }
  return ids;
}

std::unique_ptr<TokenModel> read_score_bpe(const Gguf& gguf, const Vocabulary& vocabulary) {
  return make_score_bpe({vocabulary.tokens, read_scores(gguf, vocabulary.tokens.size()),
                         read_byte_tokens(gguf, vocabulary.index), gguf.path().string()});
}

std::unique_ptr<TokenModel> read_unigram(const Gguf& gguf, const Vocabulary& vocabulary,
                                         std::int32_t unknown_id) {
  UnigramSpec spec;
  const std::vector<float> scores = read_scores(gguf, vocabulary.tokens.size());
  float lowest = std::numeric_limits<float>::max();
  for (std::size_t id = 0; id < scores.size(); ++id) {
    const std::string& text = vocabulary.tokens[id];
    if (vocabulary.is(id, kNormalToken)) lowest = std::min(lowest, scores[id]);
    if (text.size() > kMaxUnigramTokenBytes)
      fail("{}: key tokenizer.ggml.tokens[{}]: found {} bytes, expected at most {}", gguf.path().string(), id,
           text.size(), kMaxUnigramTokenBytes);
    if (vocabulary.is(id, kNormalToken | kUserDefinedToken | kUnusedToken))
      spec.trie.insert(text, static_cast<std::int32_t>(id));
    spec.scores.push_back(vocabulary.is(id, kUserDefinedToken) ? 0.0 : double{scores[id]});
  }
  spec.unknown_score = double{lowest - 10.0f};
  spec.unknown_id = unknown_id;
  spec.source = gguf.path().string();
  return make_unigram(std::move(spec));
}

std::unique_ptr<PreTokenizer> read_ugm_normalizer(const Gguf& gguf, const Vocabulary& vocabulary) {
  constexpr char kKey[] = "tokenizer.ggml.precompiled_charsmap";
  UgmNormalizerSpec spec;
  if (gguf.has(kKey)) {
    std::string bytes;
    for (const std::int64_t byte : gguf.integers(kKey)) bytes.push_back(static_cast<char>(byte));
    spec.chars_map.emplace(bytes, gguf.path().string(), kKey);
  }
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
    if (vocabulary.is(id, kUserDefinedToken)) spec.user_defined.push_back(vocabulary.tokens[id]);
  spec.space_prefix = flag(gguf, "tokenizer.ggml.add_space_prefix", false);
  spec.merge_spaces = flag(gguf, "tokenizer.ggml.remove_extra_whitespaces", false);
  return make_ugm_normalizer(std::move(spec));
}

// A special id of the metadata; without the key the one that llama.cpp takes for vocabularies of this kind,
// which must exist only where it is needed.
std::int32_t special_id(const Gguf& gguf, const char* key, std::int32_t otherwise, std::size_t tokens) {
  if (!gguf.has(key)) return otherwise < static_cast<std::int64_t>(tokens) ? otherwise : -1;
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

// What the three kinds of vocabulary differ in.
struct Kind {
  std::string description;
  bool add_bos = false, add_eos = false, clean_spaces = false, space_prefix = false;
  std::int32_t bos = -1, eos = -1;  // where the file names none; -1: none
  TokenScript script = TokenScript::byte_letters;
};

Kind add_byte_level_bpe(const Gguf& gguf, const Vocabulary& vocabulary, TokenizerParts& parts) {
  constexpr char kKey[] = "tokenizer.ggml.pre";
  const LlamaPreTokenizer pre =
      add_llama_splitters(gguf.has(kKey) ? gguf.text(kKey) : "",
                          fmt::format("{}: key {}", gguf.path().string(), kKey), parts.pre_tokenizers);
  parts.model = read_byte_level_bpe(gguf, pre, vocabulary.index);
  Kind kind{
      fmt::format("byte-level BPE, {} tokens, GGUF, pre-tokenizer {}", vocabulary.tokens.size(), pre.name)};
  kind.add_bos = pre.add_bos;
  kind.clean_spaces = pre.clean_spaces;
  // Token 11 is nobody's choice: it counts only where it is added around a text.
  if (pre.default_bos && flag(gguf, "tokenizer.ggml.add_bos_token", pre.add_bos)) kind.bos = 11;
  if (flag(gguf, "tokenizer.ggml.add_eos_token", false)) kind.eos = 11;
  return kind;
}

Kind add_score_bpe(const Gguf& gguf, const Vocabulary& vocabulary, TokenizerParts& parts) {
  Kind kind{fmt::format("SentencePiece BPE, {} tokens, GGUF", vocabulary.tokens.size())};
  kind.add_bos = kind.space_prefix = true;
  kind.bos = 1;
  kind.eos = 2;
  kind.script = TokenScript::spaces_as_2581;
  // Before every stretch between special tokens, whether it begins with a space or not.
  if (flag(gguf, "tokenizer.ggml.add_space_prefix", true))
    parts.normalizers.push_back(make_prepend("\u2581"));
  parts.normalizers.push_back(make_replace(" ", "\u2581"));
  parts.model = read_score_bpe(gguf, vocabulary);
  return kind;
}

Kind add_unigram(const Gguf& gguf, const Vocabulary& vocabulary, TokenizerParts& parts) {
  Kind kind{fmt::format("Unigram, {} tokens, GGUF", vocabulary.tokens.size())};
  kind.add_eos = true;
  kind.eos = 1;
  kind.script = TokenScript::spaces_as_2581;
  parts.normalizers.push_back(read_ugm_normalizer(gguf, vocabulary));
  parts.model = read_unigram(
      gguf, vocabulary, special_id(gguf, "tokenizer.ggml.unknown_token_id", 2, vocabulary.tokens.size()));
  return kind;
}

Kind add_model(const Gguf& gguf, const Vocabulary& vocabulary, TokenizerParts& parts) {
  const std::string& model = gguf.text("tokenizer.ggml.model");
  if (model == "gpt2") return add_byte_level_bpe(gguf, vocabulary, parts);
  if (model == "llama") return add_score_bpe(gguf, vocabulary, parts);
  if (model == "t5") return add_unigram(gguf, vocabulary, parts);
  fail_hint(kHint, "{}: key tokenizer.ggml.model: found \"{}\", expected gpt2, llama or t5",
            gguf.path().string(), printable(model));
}

}  // namespace

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& path) {
  const auto gguf = Gguf::open(path);
  gguf->text("tokenizer.ggml.model");  // says so where there is no tokenizer at all
  TokenizerParts parts;
  Vocabulary vocabulary;
  vocabulary.tokens = read_tokens(*gguf, vocabulary.index);
  vocabulary.types = read_token_types(*gguf, vocabulary.tokens, vocabulary.index);
  const Kind kind = add_model(*gguf, vocabulary, parts);
  const std::size_t count = vocabulary.tokens.size();
  parts.added =
      make_llama_cpp_finder(special_tokens_in_search_order(*gguf, vocabulary.tokens, vocabulary.types));

  const bool add_bos = flag(*gguf, "tokenizer.ggml.add_bos_token", kind.add_bos);
  const bool add_eos = flag(*gguf, "tokenizer.ggml.add_eos_token", kind.add_eos);
  parts.bos = special_id(*gguf, "tokenizer.ggml.bos_token_id", kind.bos, count);
  parts.eos = special_id(*gguf, "tokenizer.ggml.eos_token_id", kind.eos, count);
  if (add_bos && parts.bos >= 0) parts.prefix = {parts.bos};
  if (add_eos && parts.eos >= 0) parts.suffix = {parts.eos};

  const LlamaCppDecoding decoding{kind.clean_spaces,
                                  flag(*gguf, "tokenizer.ggml.add_space_prefix", kind.space_prefix),
                                  add_bos ? parts.bos : -1, add_eos ? parts.eos : -1};
  parts.decoder = make_llama_cpp_decoder(
      make_decoded_tokens(vocabulary.tokens, vocabulary.types, kind.script, path.string()), decoding);
  parts.vocab_size = static_cast<std::int64_t>(count);
  parts.description = kind.description;
  parts.fingerprint = hash_metadata(*gguf);
  parts.source = path.string();
  return make_pipeline(std::move(parts));
}

}  // namespace sonde
