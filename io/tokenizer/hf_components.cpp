#include "io/tokenizer/hf_components.h"

#include <string_view>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr char kHint[] = "token ids can be given in place of text: --ids";

[[noreturn]] void refuse(const JsonField& component, std::string_view what, std::string_view supported) {
  fail_hint(kHint, "{}: key {}: {} is not supported, expected {}", component.file, component.name,
            printable(what, 400), supported);
}

// Split patterns that have a hand-written splitter. Spellings in one line match the same.
enum class Pattern { gpt2, llama3, qwen2 };
struct KnownPattern {
  std::string_view regex;
  Pattern pattern;
};
constexpr KnownPattern kPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", Pattern::gpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", Pattern::gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pattern::llama3},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
     Pattern::llama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pattern::qwen2},
};

std::string read_split(const JsonField& split, TokenizerParts& parts) {
  const JsonField pattern = split.at("pattern");
  if (!pattern.has("Regex"))
    refuse(pattern, "a pattern that is not a Regex", "one of the known Regex patterns");
  const std::string& regex = pattern.at("Regex").text();
  // These patterns leave no gaps, so that isolating matches and keeping only matches come to the same.
  const std::string& behavior = split.at("behavior").text();
  const bool keeps_matches =
      behavior == "Isolated" || (behavior == "Removed" && split.boolean("invert", false));
  if (!keeps_matches) refuse(split, fmt::format("behavior {}", behavior), "Isolated");
  const CharClasses& classes = CharClasses::hugging_face();
  for (const KnownPattern& known : kPatterns) {
    if (known.regex != regex) continue;
    parts.pre_tokenizers.push_back(
        known.pattern == Pattern::gpt2
            ? make_gpt2_splitter(classes)
            : make_llama3_splitter(classes, known.pattern == Pattern::llama3 ? 3 : 1, LongS::is_s));
    return known.pattern == Pattern::gpt2     ? "Split(gpt-2)"
           : known.pattern == Pattern::llama3 ? "Split(llama-3)"
                                              : "Split(qwen2)";
  }
  refuse(pattern, fmt::format("the pattern {}", regex), "that of GPT-2, Llama 3 or Qwen2");
}

std::string read_stage(const JsonField& stage, TokenizerParts& parts, bool& is_byte_level) {
  const std::string type = stage.type();
  if (is_byte_level)
    refuse(stage, fmt::format("pre-tokenizer {} after ByteLevel", type), "ByteLevel to be the last");
  const CharClasses& classes = CharClasses::hugging_face();
  if (type == "ByteLevel") {
    is_byte_level = true;
    if (stage.at("add_prefix_space").boolean()) parts.pre_tokenizers.push_back(make_space_prefixer());
    if (stage.boolean("use_regex", true)) parts.pre_tokenizers.push_back(make_gpt2_splitter(classes));
    return type;
  }
  if (type == "Digits") {
    const bool one_by_one = stage.boolean("individual_digits", false);
    parts.pre_tokenizers.push_back(
        make_digit_splitter(classes, one_by_one ? DigitRuns::one_by_one : DigitRuns::together));
    return type;
  }
  if (type == "Split") return read_split(stage, parts);
  if (type == "Sequence") {
    const JsonField stages = stage.at("pretokenizers");
    std::string description;
    for (std::size_t i = 0; i < stages.array().value.size(); ++i) {
      if (i > 0) description += "+";
      description += read_stage(stages.element(i), parts, is_byte_level);
    }
    return description;
  }
  refuse(stage, fmt::format("pre-tokenizer {}", type), "ByteLevel, Digits, Split or Sequence");
}

std::vector<std::int32_t> read_special_ids(const JsonField& processor, const std::string& name) {
  const JsonField entry = processor.at("special_tokens").at(name.c_str());
  const JsonField ids = entry.at("ids");
  std::vector<std::int32_t> result;
  for (std::size_t i = 0; i < ids.array().value.size(); ++i) result.push_back(ids.element(i).id());
  return result;
}

// A second processor that adds tokens would see the first one's as texts of their own; nobody means that.
void set_template(const JsonField& processor, TokenizerParts& parts, std::vector<std::int32_t> before,
                  std::vector<std::int32_t> after) {
  if (!parts.prefix.empty() || !parts.suffix.empty()) refuse(processor, "a second template", "one");
  parts.prefix = std::move(before);
  parts.suffix = std::move(after);
}

void read_template(const JsonField& processor, TokenizerParts& parts) {
  const JsonField single = processor.at("single");
  std::vector<std::int32_t> before, after;
  int sequences = 0;
  for (std::size_t i = 0; i < single.array().value.size(); ++i) {
    const JsonField piece = single.element(i);
    if (piece.has("Sequence")) {
      if (piece.at("Sequence").at("id").text() != "A") refuse(piece, "Sequence B in a single template", "A");
      ++sequences;
      continue;
    }
    const auto ids = read_special_ids(processor, piece.at("SpecialToken").at("id").text());
    std::vector<std::int32_t>& side = sequences == 0 ? before : after;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (sequences != 1) refuse(single, fmt::format("a template with {} sequences", sequences), "exactly one");
  set_template(processor, parts, std::move(before), std::move(after));
}

void read_processor(const JsonField& processor, TokenizerParts& parts) {
  const std::string type = processor.type();
  if (type == "ByteLevel") return;  // trims offsets, changes no ids
  if (type == "TemplateProcessing") return read_template(processor, parts);
  if (type == "RobertaProcessing" || type == "BertProcessing")
    return set_template(processor, parts, {processor.at("cls").element(1).id()},
                        {processor.at("sep").element(1).id()});
  if (type == "Sequence") {
    const JsonField processors = processor.at("processors");
    for (std::size_t i = 0; i < processors.array().value.size(); ++i)
      read_processor(processors.element(i), parts);
    return;
  }
  refuse(processor, fmt::format("post-processor {}", type),
         "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing or Sequence");
}

}  // namespace

void refuse_normalizer(const JsonField& root) {
  if (!root.has("normalizer")) return;
  const JsonField normalizer = root.at("normalizer");
  if (normalizer.type() == "Sequence" && normalizer.at("normalizers").array().value.empty()) return;
  refuse(normalizer, fmt::format("normalizer {}", normalizer.type()), "none");
}

std::string read_pre_tokenizer(const JsonField& root, TokenizerParts& parts) {
  bool is_byte_level = false;
  std::string description;
  if (root.has("pre_tokenizer")) description = read_stage(root.at("pre_tokenizer"), parts, is_byte_level);
  if (!is_byte_level)
    fail_hint(
        kHint,
        "{}: key pre_tokenizer: found {}, expected a ByteLevel stage (only byte-level BPE is supported)",
        root.file, description.empty() ? "none" : description);
  return description;
}

void read_post_processor(const JsonField& root, TokenizerParts& parts) {
  if (root.has("post_processor")) read_processor(root.at("post_processor"), parts);
}

void check_decoder(const JsonField& root) {
  if (!root.has("decoder")) fail_hint(kHint, "{}: key decoder: not found, expected ByteLevel", root.file);
  const JsonField decoder = root.at("decoder");
  if (decoder.type() == "Sequence") {
    const JsonField decoders = decoder.at("decoders");
    if (decoders.array().value.size() == 1 && decoders.element(0).type() == "ByteLevel") return;
    refuse(decoder, "a Sequence of decoders", "ByteLevel alone");
  }
  if (decoder.type() != "ByteLevel") refuse(decoder, fmt::format("decoder {}", decoder.type()), "ByteLevel");
}

}  // namespace sonde
