#include "io/tokenizer/gguf_token_types.h"

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <string_view>

#include "io/file_util.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/utf8.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using Names = std::initializer_list<std::string_view>;

// llama.cpp takes the first of these that its walk over the vocabulary meets for the task (unless the file
// names one) and makes it a control token.
struct SpecialTask {
  const char* key;  // of the file
  Names names;
};
const SpecialTask kTasks[] = {
    {"tokenizer.ggml.eot_token_id",
     {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>",
      "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>"}},
    {"tokenizer.ggml.eom_token_id", {"<|eom_id|>"}},
    {"tokenizer.ggml.fim_pre_token_id",
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
      "<|code_prefix|>", "<|prefix|>"}},
    {"tokenizer.ggml.fim_suf_token_id",
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
      "<|code_suffix|>", "<|suffix|>"}},
    {"tokenizer.ggml.fim_mid_token_id",
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
      "<|middle|>"}},
    {"tokenizer.ggml.fim_pad_token_id", {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {"tokenizer.ggml.fim_rep_token_id",
     {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {"tokenizer.ggml.fim_sep_token_id", {"<|file_sep|>"}},
};
// Deprecated names of the same ids.
const std::pair<const char*, const char*> kOldKeys[] = {
    {"tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"},
    {"tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"},
    {"tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"},
};
// These end a generation and are control tokens always.
const Names kEnds = {"<|eot_id|>",
                     "<|im_end|>",
                     "<|end|>",
                     "<|return|>",
                     "<|call|>",
                     "<|flush|>",
                     "<|calls|>",
                     "<end_of_turn>",
                     "<|endoftext|>",
                     "</s>",
                     "<|eom_id|>",
                     "<EOT>",
                     "_<EOT>",
                     "[EOT]",
                     "[EOS]",
                     "<|end_of_text|>",
                     "<end_of_utterance>",
                     "<eos>",
                     "<turn|>",
                     "<|tool_response>",
                     "<｜end▁of▁sentence｜>",
                     "[e~["};
// These are always shown.
const Names kShown = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

bool contains(Names names, std::string_view text) { return std::ranges::find(names, text) != names.end(); }

GgufTokenType type_of(std::int64_t number) {
  switch (number) {
    case 1:
      return kNormalToken;
    case 2:
      return kUnknownToken;
    case 3:
      return kControlToken;
    case 4:
      return kUserDefinedToken;
    case 5:
      return kUnusedToken;
    case 6:
      return kByteToken;
    default:
      return kUndefinedToken;
  }
}

bool names_token(const Gguf& gguf, const char* key) {
  if (gguf.has(key)) return true;
  return std::ranges::any_of(
      kOldKeys, [&](const auto& old) { return std::string_view(old.first) == key && gguf.has(old.second); });
}

void add_control(GgufTokenType& type) { type = static_cast<GgufTokenType>(type | kControlToken); }

}  // namespace

std::vector<GgufTokenType> read_token_types(const Gguf& gguf, const std::vector<std::string>& tokens,
                                            const TokenIndex& index) {
  constexpr char kKey[] = "tokenizer.ggml.token_type";
  std::vector<GgufTokenType> types(tokens.size(), kNormalToken);
  if (gguf.has(kKey)) {
    const std::vector<std::int64_t>& numbers = gguf.integers(kKey);
    if (numbers.size() < tokens.size())
      fail("{}: key {}: found {} types, expected one for each of {} tokens", gguf.path().string(), kKey,
           numbers.size(), tokens.size());
    for (std::size_t id = 0; id < tokens.size(); ++id) types[id] = type_of(numbers[id]);
  }
  for (const SpecialTask& task : kTasks) {
    if (names_token(gguf, task.key)) continue;
    const auto first =
        std::ranges::find_if(index, [&](const auto& entry) { return contains(task.names, entry.first); });
    if (first != index.end()) add_control(types[static_cast<std::size_t>(first->second)]);
  }
  const auto id_of = [&](std::string_view name) {
    const auto found = index.find(std::string(name));
    return found == index.end() ? -1 : found->second;
  };
  for (const std::string_view name : kEnds)
    if (const std::int32_t id = id_of(name); id >= 0) add_control(types[static_cast<std::size_t>(id)]);
  for (const std::string_view name : kShown)
    if (const std::int32_t id = id_of(name); id >= 0) types[static_cast<std::size_t>(id)] = kUserDefinedToken;

  const auto has = [&](std::string_view name) { return id_of(name) >= 0; };
  const bool has_call = has("<|call|>") || has("<|calls|>");
  if (has("<|end|>") && has_call && (has("<|return|>") || has("<|flush|>")))
    types[static_cast<std::size_t>(id_of("<|end|>"))] = kUserDefinedToken;
  if (has("<|tool_response>") && has("</s>")) types[static_cast<std::size_t>(id_of("</s>"))] = kNormalToken;
  return types;
}

// Which special tokens swallow spaces beside them.
struct GgufStrip {
  std::string left;            // the one that does to its left
  bool right_of_most = false;  // all to their right, but <unk>, <s> and <|endoftext|>
};
// llama.cpp goes by names of models.
GgufStrip find_strips(const Gguf& gguf) {
  const auto lower = [&](const char* key) {
    std::string text = gguf.has(key) ? gguf.text(key) : "";
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
  };
  const std::string name = lower("general.name"),
                    pre = gguf.has("tokenizer.ggml.pre") ? gguf.text("tokenizer.ggml.pre") : "";
  const auto has = [](const std::string& text, std::initializer_list<const char*> parts) {
    return std::ranges::any_of(parts, [&](const char* part) { return text.find(part) != text.npos; });
  };
  GgufStrip strip;
  const std::string arch = gguf.has("general.architecture") ? gguf.text("general.architecture") : "";
  if (has(pre, {"jina-v2-de", "jina-v2-es", "jina-v2-code"}) || has(arch, {"nomic-bert-moe", "jina-bert-v3"}))
    strip.left = "<mask>";
  else if (has(name, {"phi-3", "phi3"}))
    strip.right_of_most = true;
  else if (has(name, {"modern-bert"}))
    strip.left = "[MASK]";
  return strip;
}

std::vector<GgufSpecialToken> special_tokens_in_search_order(const Gguf& gguf,
                                                             const std::vector<std::string>& tokens,
                                                             const std::vector<GgufTokenType>& types) {
  const std::string file = gguf.path().string();
  std::vector<std::int32_t> ids;
  for (std::size_t id = 0; id < tokens.size(); ++id)
    if (types[id] & (kControlToken | kUserDefinedToken | kUnknownToken))
      ids.push_back(static_cast<std::int32_t>(id));
  const auto text = [&](std::int32_t id) -> const std::string& {
    return tokens[static_cast<std::size_t>(id)];
  };
  // Not stable, as in llama.cpp.
  std::sort(ids.begin(), ids.end(),
            [&](std::int32_t a, std::int32_t b) { return text(a).size() > text(b).size(); });
  const GgufStrip strip = find_strips(gguf);
  std::vector<GgufSpecialToken> result;
  for (const std::int32_t id : ids) {
    if (text(id).size() > kMaxAddedTokenBytes)
      fail("{}: key tokenizer.ggml.tokens[{}]: found a special token of {} bytes, expected at most {}", file,
           id, text(id).size(), kMaxAddedTokenBytes);
    const bool is_control = (types[static_cast<std::size_t>(id)] & (kControlToken | kUnknownToken)) != 0;
    const bool strips_right =
        strip.right_of_most && text(id) != "<unk>" && text(id) != "<s>" && text(id) != "<|endoftext|>";
    result.push_back({id, text(id), is_control, !strip.left.empty() && text(id) == strip.left, strips_right});
  }
  return result;
}

std::vector<DecodedToken> make_decoded_tokens(const std::vector<std::string>& tokens,
                                              const std::vector<GgufTokenType>& types, TokenScript script,
                                              const std::string& file) {
  const auto with_spaces = [](std::string token) {
    constexpr std::string_view kSpace = "\u2581";
    for (std::size_t at = 0; (at = token.find(kSpace, at)) != token.npos; ++at)
      token.replace(at, kSpace.size(), " ");
    return token;
  };
  const auto bytes_of_normal = [&](const std::string& token) {
    if (script == TokenScript::spaces_as_2581) return with_spaces(token);
    const std::string text = replace_invalid_utf8(token);
    std::string bytes;
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text.data() + at);
      if (const auto byte = byte_of_letter(c.value)) {
        bytes.push_back(static_cast<char>(*byte));
      } else {  // llama.cpp's way to say that a character stands for no byte
        bytes += "[UNK_BYTE_0x";
        for (std::uint32_t i = 0; i < c.bytes; ++i)
          bytes += fmt::format("{:02x}", static_cast<unsigned char>(text[at + i]));
        bytes += token + "]";
      }
      at += c.bytes;
    }
    return bytes;
  };
  std::vector<DecodedToken> decoded(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const GgufTokenType type = types[id];
    const std::string& token = tokens[id];
    decoded[id].is_special = (type & (kControlToken | kUnknownToken)) != 0;
    if (type & (kControlToken | kUnknownToken | kUserDefinedToken)) {
      decoded[id].bytes = token;
    } else if (type & kNormalToken) {
      decoded[id].bytes = bytes_of_normal(token);
    } else if (type & kByteToken) {
      unsigned value = 0;
      const bool is_hex = token.size() == 6 && token.starts_with("<0x") && token.ends_with(">") &&
                          std::isxdigit(static_cast<unsigned char>(token[3])) &&
                          std::isxdigit(static_cast<unsigned char>(token[4]));
      if (!is_hex)
        fail("{}: key tokenizer.ggml.tokens[{}]: found byte token \"{}\", expected <0x00> to <0xFF>", file,
             id, printable(token));
      value = static_cast<unsigned>(std::stoul(token.substr(3, 2), nullptr, 16));
      decoded[id].bytes.assign(1, static_cast<char>(value));
    }
  }
  return decoded;
}

}  // namespace sonde
