#include "io/tokenizer/hf_models.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/file_util.h"
#include "io/tokenizer/char_bpe.h"
#include "io/tokenizer/hf_components.h"
#include "io/tokenizer/unigram.h"
#include "runtime/error.h"

namespace sonde {
namespace {

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
  vocabulary.model_size = static_cast<std::int64_t>(vocabulary.index.size());
}

// made(id): called with the token that each merge makes.
template <class Made>
MergeTable read_merges(const JsonField& model, const TokenIndex& index, std::size_t prefix, Made made) {
  const JsonField list = model.at("merges");
  MergeTable merges(list.array().value.size());
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
    made(add_merge(merges, index, left, right, rank++, Duplicate::last_counts, model.file, "model.merges",
                   prefix));
  }
  return merges;
}

std::string optional_text(const JsonField& model, const char* key) {
  return model.has(key) ? model.at(key).text() : "";
}

bool is_complete(const std::array<std::int32_t, 256>& ids) {
  return std::ranges::none_of(ids, [](std::int32_t id) { return id < 0; });
}

// unk_token's id; -1 without one. It may be missing from the vocabulary where it is never needed.
std::int32_t read_unknown(const JsonField& model, const TokenIndex& index, bool is_needed) {
  if (!model.has("unk_token")) return -1;
  const std::string& text = model.at("unk_token").text();
  const auto found = index.find(text);
  if (found == index.end() && is_needed)
    fail("{}: key model.unk_token: found \"{}\", expected a token of model.vocab", model.file,
         printable(text));
  return found == index.end() ? -1 : found->second;
}

std::unique_ptr<TokenModel> read_bpe(const JsonField& model, HfVocabulary& vocabulary, bool& is_byte_level) {
  if (model.has("dropout") && !(model.at("dropout").value.is_number() && model.at("dropout").value == 0.0))
    fail_hint("token ids can be given in place of text: --ids",
              "{}: key model.dropout: found {}, expected none (tokenisation must not be random)", model.file,
              model.at("dropout").value.dump());
  read_vocab(model, vocabulary);
  const TokenIndex& index = vocabulary.index;
  CharBpeSpec spec;
  spec.inner_prefix = optional_text(model, "continuing_subword_prefix");
  spec.last_suffix = optional_text(model, "end_of_word_suffix");
  spec.byte_fallback = model.boolean("byte_fallback", false);
  spec.ignore_merges = model.boolean("ignore_merges", false);
  spec.fuse_unknown = model.boolean("fuse_unk", false);
  std::vector<bool> is_made(static_cast<std::size_t>(std::min<std::int64_t>(vocabulary.size, 1 << 30)));
  spec.merges = read_merges(model, index, spec.inner_prefix.size(), [&](std::int32_t id) {
    if (static_cast<std::size_t>(id) < is_made.size()) is_made[static_cast<std::size_t>(id)] = true;
  });
  const std::array<std::int32_t, 256> letters = find_byte_ids(index);
  const bool has_letters = is_byte_level && is_complete(letters);

  if (is_byte_level && spec.inner_prefix.empty() && spec.last_suffix.empty() &&
      (!spec.byte_fallback || has_letters)) {
    is_byte_level = false;
    ByteLevelBpeSpec bytes;
    bytes.merges = std::move(spec.merges);
    bytes.byte_ids = letters;
    bytes.ignore_merges = spec.ignore_merges;
    if (bytes.ignore_merges) bytes.whole_words = find_whole_words(index);
    bytes.unknown_id = read_unknown(model, index, !has_letters);
    if (model.has("unk_token")) bytes.missing = ByteLevelBpeSpec::MissingByte::unknown;
    bytes.fuse_unknown = spec.fuse_unknown;
    return make_byte_level_bpe(std::move(bytes));
  }
  for (const auto& [text, id] : index)
    if (static_cast<std::size_t>(id) < is_made.size() && is_made[static_cast<std::size_t>(id)])
      spec.pairs.add_token(text);
  spec.byte_tokens = find_byte_tokens(index);
  spec.unknown_id = read_unknown(model, index, !(spec.byte_fallback && is_complete(spec.byte_tokens)));
  spec.vocabulary = index;
  return make_char_bpe(std::move(spec));
}

// The library's JSON reader takes the digits of a number as one integer and multiplies or divides by a power
// of ten, which is sometimes off by the last bit; sums of scores that tie are decided by it. Files hold the
// shortest digits that give the number, so these can be had back.
double as_the_library_reads(double number) {
  const std::string shortest = fmt::format("{}", number);
  const std::size_t e = std::min(shortest.find('e'), shortest.size());
  std::uint64_t digits = 0;
  int exponent = e < shortest.size() ? std::stoi(shortest.substr(e + 1)) : 0;
  bool is_fraction = false;
  for (const char c : std::string_view(shortest).substr(0, e)) {
    if (c == '.') is_fraction = true;
    if (c < '0' || c > '9') continue;
    digits = digits * 10 + static_cast<std::uint64_t>(c - '0');
    exponent -= is_fraction ? 1 : 0;
  }
  if (exponent < -308 || exponent > 308) return number;
  const double power = std::pow(10.0, std::abs(exponent));
  const double magnitude =
      exponent < 0 ? static_cast<double>(digits) / power : static_cast<double>(digits) * power;
  return number < 0 ? -magnitude : magnitude;
}

std::unique_ptr<TokenModel> read_unigram(const JsonField& model, HfVocabulary& vocabulary) {
  const JsonField vocab = model.at("vocab");
  UnigramSpec spec;
  spec.unknown_score = 0;
  const std::size_t count = vocab.array().value.size();
  if (count > INT32_MAX) vocab.fail_expected("at most 2147483647 tokens");
  vocabulary.index.reserve(count);
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonField entry = vocab.element(i);
    const std::string& text = entry.element(0).text();
    const double score = as_the_library_reads(entry.element(1).number());
    if (text.size() > kMaxUnigramTokenBytes)
      entry.fail_expected(fmt::format("a token of at most {} bytes", kMaxUnigramTokenBytes));
    vocabulary.index[text] = static_cast<std::int32_t>(i);
    spec.trie.insert(text, static_cast<std::int32_t>(i));
    spec.scores.push_back(score);
    lowest = std::min(lowest, score);
  }
  vocabulary.model_size = vocabulary.size = static_cast<std::int64_t>(count);
  if (model.has("unk_id")) {
    spec.unknown_id = model.at("unk_id").id();
    if (static_cast<std::size_t>(spec.unknown_id) >= count)
      model.at("unk_id").fail_expected(fmt::format("a token id below {}", count));
  }
  spec.unknown_score = lowest - 10.0;
  spec.byte_fallback = model.boolean("byte_fallback", false);
  spec.byte_tokens = find_byte_tokens(vocabulary.index);
  spec.vocabulary = vocabulary.index;
  spec.source = model.file;
  return make_unigram(std::move(spec));
}

}  // namespace

std::int32_t HfVocabulary::id_of(const std::string& text) const {
  for (const AddedToken& token : added)
    if (token.content == text) return token.id;
  const auto found = index.find(text);
  return found == index.end() ? -1 : found->second;
}

std::unique_ptr<TokenModel> read_model(const JsonField& root, HfVocabulary& vocabulary, bool& is_byte_level,
                                       std::string& description) {
  const JsonField model = root.at("model");
  const std::string type = model.has("type")                    ? model.type()
                           : model.at("vocab").value.is_array() ? "Unigram"
                                                                : "BPE";
  if (type == "Unigram") {
    description = "Unigram";
    return read_unigram(model, vocabulary);
  }
  if (type != "BPE") refuse_component(model, "model " + type, "BPE or Unigram");
  const bool ends_in_bytes = is_byte_level;
  auto made = read_bpe(model, vocabulary, is_byte_level);
  description = ends_in_bytes                           ? "byte-level BPE"
                : model.boolean("byte_fallback", false) ? "BPE with byte fallback"
                                                        : "BPE";
  return made;
}

}  // namespace sonde
