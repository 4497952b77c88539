#include <utility>

#include "io/tokenizer/hf_components.h"
#include "io/tokenizer/split.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// Split patterns that have a hand-written splitter. Spellings of one splitter match the same.
enum class Pattern { gpt2, llama3, qwen2, o200k };
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
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pattern::o200k},
};

struct Stages {
  std::vector<std::unique_ptr<PreTokenizer>>& list;
  PreTokenizerSummary summary;
  bool edits = false;  // a stage (or normaliser) before this one changes the text
  bool needs_spans = false;

  void add(std::unique_ptr<PreTokenizer> stage) { list.push_back(std::move(stage)); }
};

SplitBehavior read_behavior(const JsonField& stage, const char* key) {
  const JsonField field = stage.at(key);
  const std::string& name = field.text();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  refuse_component(field, name, "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

std::unique_ptr<PreTokenizer> make_known_splitter(Pattern pattern) {
  const CharClasses& classes = CharClasses::hugging_face();
  switch (pattern) {
    case Pattern::gpt2:
      return make_gpt2_splitter(classes);
    case Pattern::llama3:
      return make_llama3_splitter(classes, 3, LongS::is_s);
    case Pattern::qwen2:
      return make_llama3_splitter(classes, 1, LongS::is_s);
    case Pattern::o200k:
      break;
  }
  return make_o200k_splitter();
}

constexpr const char* kPatternNames[] = {"gpt-2", "llama-3", "qwen2", "o200k"};

std::string read_split(const JsonField& split, Stages& stages) {
  const SplitBehavior behavior = read_behavior(split, "behavior");
  const bool invert = split.boolean("invert", false);
  const JsonField pattern = split.at("pattern");
  // The known patterns leave no gaps, so that isolating matches and keeping only matches come to the same.
  const bool keeps_matches =
      (behavior == SplitBehavior::isolated) || (behavior == SplitBehavior::removed && invert);
  if (keeps_matches && pattern.has("Regex"))
    for (const KnownPattern& known : kPatterns)
      if (known.regex == pattern.at("Regex").text()) {
        stages.add(make_known_splitter(known.pattern));
        return fmt::format("Split({})", kPatternNames[static_cast<int>(known.pattern)]);
      }
  HfPattern read = read_pattern(split);
  if (!read.regex && read.literal.empty())
    read.regex = std::make_unique<Regex>("", Regex::Over::characters, split.file);
  stages.add(read.regex ? make_regex_split(std::move(read.regex), behavior, invert)
                        : make_literal_split(std::move(read.literal), behavior, invert));
  return "Split";
}

void read_byte_level(const JsonField& stage, Stages& stages) {
  if (stage.at("add_prefix_space").boolean()) {
    stages.add(make_space_prefixer());
    stages.edits = true;
  }
  if (stage.boolean("use_regex", true)) stages.add(make_gpt2_splitter(CharClasses::hugging_face()));
  stages.summary.ends_in_bytes = true;
}

void read_metaspace(const JsonField& stage, Stages& stages) {
  const std::string scheme = stage.has("prepend_scheme") ? stage.at("prepend_scheme").text() : "always";
  const bool old_never = stage.has("add_prefix_space") && !stage.at("add_prefix_space").boolean();
  if (old_never && scheme != "never" && stage.has("prepend_scheme"))
    stage.at("prepend_scheme").fail_expected("never, as add_prefix_space is false");
  PrependScheme prepend = PrependScheme::never;
  if (scheme == "always")
    prepend = old_never ? PrependScheme::never : PrependScheme::always;
  else if (scheme == "first")
    prepend = PrependScheme::first;
  else if (scheme != "never")
    refuse_component(stage.at("prepend_scheme"), scheme, "always, first or never");
  stages.needs_spans |= prepend == PrependScheme::first && stages.edits;
  stages.edits = true;
  stages.add(make_metaspace(stage.at("replacement").character(), prepend, stage.boolean("split", true)));
}

std::string read_stage(const JsonField& stage, Stages& stages, int depth) {
  const std::string type = stage.type();
  const CharClasses& classes = CharClasses::hugging_face();
  if (type == "Sequence") {
    if (depth > 32) refuse_component(stage, "a Sequence in 32 others", "fewer");
    const JsonField list = stage.at("pretokenizers");
    std::string description;
    for (std::size_t i = 0; i < list.array().value.size(); ++i) {
      const std::string part = read_stage(list.element(i), stages, depth + 1);
      if (!part.empty()) description += (description.empty() ? "" : "+") + part;
    }
    return description;
  }
  if (std::exchange(stages.summary.ends_in_bytes, false)) {
    stages.add(make_byte_letters());
    stages.edits = true;
  }
  if (type == "ByteLevel") {
    read_byte_level(stage, stages);
  } else if (type == "Digits") {
    const bool one_by_one = stage.boolean("individual_digits", false);
    stages.add(make_digit_splitter(classes, one_by_one ? DigitRuns::one_by_one : DigitRuns::together));
  } else if (type == "Punctuation") {
    const SplitBehavior behavior =
        stage.has("behavior") ? read_behavior(stage, "behavior") : SplitBehavior::isolated;
    stages.add(make_class_split(classes, kPunct, behavior));
  } else if (type == "WhitespaceSplit") {
    stages.add(make_class_split(classes, kSpace, SplitBehavior::removed));
  } else if (type == "BertPreTokenizer") {
    stages.add(make_class_split(classes, kSpace, SplitBehavior::removed));
    stages.add(make_class_split(classes, kPunct, SplitBehavior::isolated));
  } else if (type == "Whitespace") {
    stages.add(make_whitespace_splitter());
  } else if (type == "UnicodeScripts") {
    stages.add(make_script_splitter());
  } else if (type == "CharDelimiterSplit") {
    stages.add(make_literal_split(stage.at("delimiter").character(), SplitBehavior::removed, false));
  } else if (type == "FixedLength") {
    const std::size_t length = stage.count("length");
    if (length == 0) stage.at("length").fail_expected("at least 1");
    stages.add(make_fixed_length_splitter(length));
  } else if (type == "Metaspace") {
    read_metaspace(stage, stages);
  } else if (type == "Split") {
    return read_split(stage, stages);
  } else {
    refuse_component(
        stage, fmt::format("pre-tokenizer {}", type),
        "ByteLevel, Digits, Punctuation, Split, Metaspace, Whitespace, WhitespaceSplit, UnicodeScripts, "
        "CharDelimiterSplit, FixedLength, BertPreTokenizer or Sequence");
  }
  return type;
}

}  // namespace

PreTokenizerSummary read_pre_tokenizer(const JsonField& root, TokenizerParts& parts) {
  Stages stages{parts.pre_tokenizers, {}, !parts.normalizers.empty()};
  if (root.has("pre_tokenizer")) stages.summary.description = read_stage(root.at("pre_tokenizer"), stages, 0);
  parts.needs_spans = stages.needs_spans;
  return stages.summary;
}

}  // namespace sonde
