#include <utility>

#include "io/tokenizer/hf_components.h"
#include "runtime/error.h"

namespace sonde {
namespace {

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
  if (!parts.prefix.empty() || !parts.suffix.empty()) refuse_component(processor, "a second template", "one");
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
      if (piece.at("Sequence").at("id").text() != "A")
        refuse_component(piece, "Sequence B in a single template", "A");
      ++sequences;
      continue;
    }
    const auto ids = read_special_ids(processor, piece.at("SpecialToken").at("id").text());
    std::vector<std::int32_t>& side = sequences == 0 ? before : after;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (sequences != 1)
    refuse_component(single, fmt::format("a template with {} sequences", sequences), "exactly one");
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
  refuse_component(processor, fmt::format("post-processor {}", type),
                   "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing or Sequence");
}

}  // namespace

void read_post_processor(const JsonField& root, TokenizerParts& parts) {
  if (root.has("post_processor")) read_processor(root.at("post_processor"), parts);
}

}  // namespace sonde
