// tokenizer.json of Hugging Face's tokenizers library; its results are the truth (docs/tokenizers.md).
#include <algorithm>
#include <unordered_set>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/hf_components.h"
#include "io/tokenizer/load.h"
#include "io/tokenizer/vocabulary.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr char kHint[] = "token ids can be given in place of text: --ids";

struct HfVocabulary {
  TokenIndex index;               // of the model, without added tokens
  std::vector<AddedToken> added;  // in the file's order
  std::int64_t size = 0;          // largest id + 1
  std::int32_t id_of(const std::string& text) const {
    for (const AddedToken& token : added)
      if (token.content == text) return token.id;
    const auto found = index.find(text);
    return found == index.end() ? -1 : found->second;
  }
};

void read_vocab(const JsonField& model, HfVocabulary& vocabulary) {
  const JsonField vocab = model.at("vocab");
  vocab.object();
  vocabulary.index.reserve(vocab.value.size());
  std::unordered_map<std::int32_t, const std::string*> seen;
  seen.reserve(vocab.value.size());
  for (const auto& [text, id_value] : vocab.value.items()) {
    const JsonField field{id_value, model.file, "model.vocab[\"" + printable(text) + "\"]"};
    const std::int32_t id = field.id();
    const auto [other, is_new] = seen.emplace(id, &text);
    if (!is_new)
      fail("{}: key model.vocab: id {} found for \"{}\" and \"{}\", expected one token an id", model.file, id,
           printable(*other->second), printable(text));
    vocabulary.index.emplace(text, id);
    vocabulary.size = std::max<std::int64_t>(vocabulary.size, std::int64_t{id} + 1);
  }
}

// Ids of added tokens that the model does not know follow the model's, in order, as the library gives them
// out.
void read_added_tokens(const JsonField& root, HfVocabulary& vocabulary) {
  if (!root.has("added_tokens")) return;
  const JsonField list = root.at("added_tokens");
  const auto model_tokens = static_cast<std::int64_t>(vocabulary.index.size());
  std::int64_t largest = -1;
  std::unordered_set<std::string> seen;
  for (std::size_t i = 0; i < list.array().value.size(); ++i) {
    const JsonField entry = list.element(i);
    AddedToken token{entry.at("id").id(), entry.at("content").text()};
    token.special = entry.boolean("special", false);
    token.single_word = entry.boolean("single_word", false);
    token.lstrip = entry.boolean("lstrip", false);
    token.rstrip = entry.boolean("rstrip", false);
    token.normalized = entry.boolean("normalized", !token.special);
    if (token.content.empty()) continue;  // the library ignores it
    if (token.content.size() > kMaxAddedTokenBytes)
      entry.at("content").fail_expected(fmt::format("at most {} bytes", kMaxAddedTokenBytes));
    if (!seen.insert(token.content).second) entry.at("content").fail_expected("each added token once");
    const auto known = vocabulary.index.find(token.content);
    const std::int64_t expected = known != vocabulary.index.end()                ? known->second
                                  : largest >= model_tokens || model_tokens == 0 ? largest + 1
                                                                                 : model_tokens;
    if (token.id != expected)
      entry.at("id").fail_expected(fmt::format("{}, the id the library gives it", expected));
    largest = std::max<std::int64_t>(largest, token.id);
    vocabulary.size = std::max<std::int64_t>(vocabulary.size, std::int64_t{token.id} + 1);
    vocabulary.added.push_back(std::move(token));
  }
}

void read_merges(const JsonField& model, const TokenIndex& index, MergeTable& merges) {
  const JsonField list = model.at("merges");
  merges = MergeTable(list.array().value.size());
  std::uint32_t rank = 0;
  for (const Json& entry : list.value) {
    const auto refuse = [&] {
      JsonField{entry, model.file, fmt::format("model.merges[{}]", rank)}.fail_expected(
          "\"left right\" or [\"left\", \"right\"]");
    };
    std::string_view left, right;
    if (entry.is_string()) {
      const std::string_view text = entry.get_ref<const std::string&>();
      if (rank == 0 && text.starts_with("#version")) continue;
      const std::size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) refuse();
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) refuse();
      left = entry[0].get_ref<const std::string&>();
      right = entry[1].get_ref<const std::string&>();
    }
    add_merge(merges, index, left, right, rank++, Duplicate::last_counts, model.file, "model.merges");
  }
}

ByteLevelBpeSpec read_model(const JsonField& root, HfVocabulary& vocabulary) {
  const JsonField model = root.at("model");
  if (model.has("type") && model.type() != "BPE")
    fail_hint(kHint, "{}: key model.type: found {}, expected BPE (only byte-level BPE is supported)",
              root.file, model.type());
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (model.has(key) && !model.at(key).text().empty())
      fail_hint(kHint, "{}: key model.{}: found \"{}\", expected none", root.file, key,
                printable(model.at(key).text()));
  if (model.has("dropout") && !(model.at("dropout").value.is_number() && model.at("dropout").value == 0.0))
    fail_hint(kHint, "{}: key model.dropout: found {}, expected none (tokenisation must not be random)",
              root.file, model.at("dropout").value.dump());
  if (model.boolean("byte_fallback", false))
    fail_hint(kHint, "{}: key model.byte_fallback: found true, expected false", root.file);

  read_vocab(model, vocabulary);
  ByteLevelBpeSpec spec;
  read_merges(model, vocabulary.index, spec.merges);
  spec.byte_ids = find_byte_ids(vocabulary.index);
  spec.ignore_merges = model.boolean("ignore_merges", false);
  if (spec.ignore_merges) spec.whole_words = find_whole_words(vocabulary.index);
  if (model.has("unk_token")) {
    const std::string& text = model.at("unk_token").text();
    const auto found = vocabulary.index.find(text);
    const bool all_bytes = std::ranges::none_of(spec.byte_ids, [](std::int32_t id) { return id < 0; });
    if (found == vocabulary.index.end() && !all_bytes)
      fail("{}: key model.unk_token: found \"{}\", expected a token of model.vocab", root.file,
           printable(text));
    spec.missing = ByteLevelBpeSpec::MissingByte::unknown;
    spec.unknown_id = found == vocabulary.index.end() ? -1 : found->second;
    spec.fuse_unknown = model.boolean("fuse_unk", false);
  }
  return spec;
}

std::vector<DecodedToken> make_decoded_tokens(const HfVocabulary& vocabulary, const std::string& file) {
  const auto known = static_cast<std::int64_t>(vocabulary.index.size() + vocabulary.added.size());
  if (vocabulary.size > 4 * known + 65536)
    fail("{}: key model.vocab: found id {} among {} tokens, expected ids without such gaps", file,
         vocabulary.size - 1, known);
  std::vector<DecodedToken> tokens(static_cast<std::size_t>(vocabulary.size));
  const auto set = [&](std::int32_t id, const std::string& text, bool is_special) {
    tokens[static_cast<std::size_t>(id)] = {bytes_of_token(text).value_or(text), is_special};
  };
  for (const auto& [text, id] : vocabulary.index) set(id, text, false);
  for (const AddedToken& token : vocabulary.added) set(token.id, token.content, token.special);
  return tokens;
}

// bos and eos are told by the files beside tokenizer.json: by text, or by id in config.json.
std::int32_t read_special_id(const char* name, const std::filesystem::path& folder,
                             const HfVocabulary& vocabulary) {
  std::error_code error;
  if (const auto path = folder / "tokenizer_config.json"; std::filesystem::exists(path, error)) {
    const Json json = read_json(path);
    const std::string file = path.string(), key = std::string(name) + "_token";
    const JsonField config{json, file, ""};
    if (config.has(key.c_str())) {
      const JsonField token = config.at(key.c_str());
      const std::string& text = token.value.is_object() ? token.at("content").text() : token.text();
      const std::int32_t id = vocabulary.id_of(text);
      if (id < 0) token.fail_expected("a token of tokenizer.json");
      return id;
    }
    if (json.contains(key)) return -1;  // null: none
  }
  if (const auto path = folder / "config.json"; std::filesystem::exists(path, error)) {
    const Json json = read_json(path);
    const std::string key = std::string(name) + "_token_id";
    if (!json.is_object() || !json.contains(key)) return -1;
    const Json& value = json[key].is_array() && !json[key].empty() ? json[key][0] : json[key];
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() < static_cast<std::uint64_t>(vocabulary.size))
      return value.get<std::int32_t>();
  }
  return -1;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& path) {
  const std::string file = path.string();
  const Json json = read_json(path);
  const JsonField root{json, file, ""};

  TokenizerParts parts;
  HfVocabulary vocabulary;
  refuse_normalizer(root);
  const std::string stages = read_pre_tokenizer(root, parts);
  read_post_processor(root, parts);
  check_decoder(root);
  parts.model = make_byte_level_bpe(read_model(root, vocabulary));
  read_added_tokens(root, vocabulary);

  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : vocabulary.added) (token.normalized ? normalized : raw).push_back(token);
  parts.added = make_hugging_face_finder(raw);
  if (!normalized.empty()) parts.added_normalized = make_hugging_face_finder(normalized);
  parts.decoder = make_byte_level_decoder(make_decoded_tokens(vocabulary, file));
  parts.vocab_size = vocabulary.size;
  for (const auto* ids : {&parts.prefix, &parts.suffix})
    for (const std::int32_t id : *ids)
      if (id >= parts.vocab_size)
        fail("{}: key post_processor: found token id {}, expected one below {}", file, id, parts.vocab_size);

  parts.bos = read_special_id("bos", path.parent_path(), vocabulary);
  parts.eos = read_special_id("eos", path.parent_path(), vocabulary);
  if (parts.bos < 0 && parts.prefix.size() == 1) parts.bos = parts.prefix[0];
  parts.description = fmt::format("byte-level BPE, {} tokens, tokenizer.json, {}", parts.vocab_size, stages);
  parts.fingerprint = sha256_hex(json.dump() + fmt::format(" bos {} eos {}", parts.bos, parts.eos));
  parts.source = file;
  return make_pipeline(std::move(parts));
}

}  // namespace sonde
