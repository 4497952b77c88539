// tokenizer.json of Hugging Face's tokenizers library; its results are the truth (docs/tokenizers.md).
#include <algorithm>
#include <unordered_set>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/tokenizer/hf_components.h"
#include "io/tokenizer/hf_models.h"
#include "io/tokenizer/load.h"
#include "io/tokenizer/vocabulary.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// Ids of added tokens that the model does not know follow the model's, in order, as the library gives them
// out.
void read_added_tokens(const JsonField& root, HfVocabulary& vocabulary) {
  if (!root.has("added_tokens")) return;
  const JsonField list = root.at("added_tokens");
  const std::int64_t model_tokens = vocabulary.model_size;
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

std::string normalized_text(const std::string& text, const TokenizerParts& parts) {
  Pieces pieces;
  pieces.start(text, nullptr, {0, static_cast<std::uint32_t>(text.size())});
  for (const auto& stage : parts.normalizers) stage->apply(pieces);
  std::string result;
  for (const Piece& piece : pieces.pieces) result += pieces.text.substr(piece.begin, piece.end - piece.begin);
  return result;
}

// Tokens that are `normalized` are looked for in the normalised text, and normalised themselves.
void add_finders(const std::vector<AddedToken>& added, const std::string& file, TokenizerParts& parts) {
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : added) (token.normalized ? normalized : raw).push_back(token);
  parts.added = make_hugging_face_finder(raw);
  if (normalized.empty()) return;
  for (AddedToken& token : normalized) {
    const std::string text = normalized_text(token.content, parts);
    if (text.empty())  // the library would find it everywhere, and panics where characters have several bytes
      fail_hint("\"normalized\": false", "{}: added token \"{}\": the normalizer leaves nothing of it", file,
                printable(token.content));
    token.content = text;
  }
  parts.added_normalized = make_hugging_face_finder(normalized);
}

std::vector<DecodedToken> make_decoded_tokens(const HfVocabulary& vocabulary, const TokenizerParts& parts,
                                              const std::string& file) {
  const auto known = static_cast<std::int64_t>(vocabulary.index.size() + vocabulary.added.size());
  if (vocabulary.size > 4 * known + 65536)
    fail("{}: key model.vocab: found id {} among {} tokens, expected ids without such gaps", file,
         vocabulary.size - 1, known);
  std::vector<DecodedToken> tokens(static_cast<std::size_t>(vocabulary.size), {"", false, false});
  const auto set = [&](std::int32_t id, const std::string& text, bool is_special) {
    tokens[static_cast<std::size_t>(id)] = {text, is_special};
  };
  for (const auto& [text, id] : vocabulary.index) set(id, text, false);
  // A normalised token is written as it is looked for, and is left out only if a special token reads like
  // that.
  std::unordered_set<std::string> special;
  for (const AddedToken& token : vocabulary.added)
    if (token.special) special.insert(token.content);
  for (const AddedToken& token : vocabulary.added) {
    const std::string text = token.normalized ? normalized_text(token.content, parts) : token.content;
    set(token.id, text, special.count(text) > 0);
  }
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
  read_normalizer(root, parts);
  PreTokenizerSummary stages = read_pre_tokenizer(root, parts);
  read_post_processor(root, parts);
  std::string kind;
  parts.model = read_model(root, vocabulary, stages.ends_in_bytes, kind);
  if (stages.ends_in_bytes) parts.pre_tokenizers.push_back(make_byte_letters());
  read_added_tokens(root, vocabulary);
  add_finders(vocabulary.added, file, parts);
  parts.decoder = read_decoder(root, make_decoded_tokens(vocabulary, parts, file));
  parts.vocab_size = vocabulary.size;
  for (const auto* ids : {&parts.prefix, &parts.suffix})
    for (const std::int32_t id : *ids)
      if (id >= parts.vocab_size)
        fail("{}: key post_processor: found token id {}, expected one below {}", file, id, parts.vocab_size);

  parts.bos = read_special_id("bos", path.parent_path(), vocabulary);
  parts.eos = read_special_id("eos", path.parent_path(), vocabulary);
  if (parts.bos < 0 && parts.prefix.size() == 1) parts.bos = parts.prefix[0];
  parts.description = fmt::format("{}, {} tokens, tokenizer.json{}{}", kind, parts.vocab_size,
                                  stages.description.empty() ? "" : ", ", stages.description);
  parts.fingerprint = sha256_hex(json.dump() + fmt::format(" bos {} eos {}", parts.bos, parts.eos));
  parts.source = file;
  return make_pipeline(std::move(parts));
}

}  // namespace sonde
