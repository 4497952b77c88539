#include "io/file_util.h"
#include "io/tokenizer/base64.h"
#include "io/tokenizer/hf_components.h"
#include "io/tokenizer/normalizer.h"
#include "runtime/error.h"

namespace sonde {

void refuse_component(const JsonField& component, std::string_view what, std::string_view supported) {
  fail_hint("token ids can be given in place of text: --ids", "{}: key {}: {} is not supported, expected {}",
            component.file, component.name, printable(what, 400), supported);
}

HfPattern read_pattern(const JsonField& component) {
  const JsonField pattern = component.at("pattern");
  HfPattern result;
  if (pattern.has("Regex")) {
    const JsonField regex = pattern.at("Regex");
    result.regex = std::make_unique<Regex>(regex.text(), Regex::Over::characters,
                                           fmt::format("{}: key {}", regex.file, regex.name));
  } else {
    result.literal = pattern.at("String").text();
  }
  return result;
}

namespace {

void read_stage(const JsonField& stage, std::vector<std::unique_ptr<PreTokenizer>>& stages, int depth) {
  const std::string type = stage.type();
  const auto add = [&](std::unique_ptr<PreTokenizer> made) { stages.push_back(std::move(made)); };
  if (type == "NFC") return add(make_normal_form(NormalForm::nfc));
  if (type == "NFD") return add(make_normal_form(NormalForm::nfd));
  if (type == "NFKC") return add(make_normal_form(NormalForm::nfkc));
  if (type == "NFKD") return add(make_normal_form(NormalForm::nfkd));
  if (type == "Lowercase") return add(make_lower_case());
  if (type == "StripAccents") return add(make_strip_accents());
  if (type == "Nmt") return add(make_nmt());
  if (type == "ByteLevel") return add(make_byte_letters());
  if (type == "Strip")
    return add(make_strip(stage.at("strip_left").boolean(), stage.at("strip_right").boolean()));
  if (type == "Prepend") return add(make_prepend(stage.at("prepend").text()));
  if (type == "Replace") {
    HfPattern pattern = read_pattern(stage);
    const std::string& content = stage.at("content").text();
    return add(pattern.regex ? make_replace(std::move(pattern.regex), content)
                             : make_replace(std::move(pattern.literal), content));
  }
  if (type == "Precompiled") {
    const JsonField map = stage.at("precompiled_charsmap");
    const auto bytes = bytes_of_base64(map.text());
    if (!bytes) map.fail_expected("base64");
    if (bytes->empty()) return;
    return add(make_precompiled(CharsMap(*bytes, map.file, map.name)));
  }
  if (type == "Sequence") {
    if (depth > 32) refuse_component(stage, "a Sequence in 32 others", "fewer");
    const JsonField list = stage.at("normalizers");
    for (std::size_t i = 0; i < list.array().value.size(); ++i)
      read_stage(list.element(i), stages, depth + 1);
    return;
  }
  refuse_component(
      stage, fmt::format("normalizer {}", type),
      "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, Nmt, Precompiled, "
      "ByteLevel or Sequence");
}

}  // namespace

void read_normalizer(const JsonField& root, TokenizerParts& parts) {
  if (root.has("normalizer")) read_stage(root.at("normalizer"), parts.normalizers, 0);
}

}  // namespace sonde
