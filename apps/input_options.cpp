#include "apps/input_options.h"

#include "apps/chat.h"
#include "apps/model_options.h"
#include "runtime/error.h"

namespace sonde {

void add_input_options(po::options_description& options) {
  options.add_options()("texts", po::value<std::vector<std::string>>()->multitoken(),
                        "CSV, TSV, JSONL or plain lines, .gz and .zst; files or globs")(
      "ids", po::value<std::vector<std::string>>()->multitoken(),
      "token ids: JSONL with {\"ids\": [..]} a line")(
      "column", po::value<std::string>()->default_value("text"), "column that holds the text")(
      "template", po::value<std::string>()->default_value(""),
      "text made of columns: '{statement} True or false?'")(
      "id-column", po::value<std::string>()->default_value("id"),
      "column with the documents' ids; row numbers where there is none")(
      "bos", po::value<std::string>(), "yes | no: override whether a bos token is put in front");
  add_chat_options(options);
}

void add_recording_options(po::options_description& options) {
  options.add_options()("sites,site", po::value<std::string>(),
                        "points to record: names or patterns, commas unite, * matches within one part")(
      "store", po::value<std::string>()->default_value("f32"), "f32 | bf16 | f16: values in the store")(
      "shard-rows", po::value<std::int64_t>()->default_value(0),
      "rows per shard file (0: about 1 GiB a shard)")("context", po::value<std::int64_t>()->default_value(0),
                                                      "most tokens of a sequence (0: the model's context)")(
      "overflow", po::value<std::string>()->default_value("error"),
      "longer documents: error | truncate | split")("skip-first", po::value<std::int64_t>()->default_value(0),
                                                    "first tokens of each document that are not recorded")(
      "batch-tokens", po::value<std::int64_t>()->default_value(2048), "token budget of a batch")(
      "skip-empty", "leave documents without tokens out instead of stopping");
}

std::int64_t at_least(const po::variables_map& values, const std::string& option, std::int64_t least) {
  const auto value = values[option].as<std::int64_t>();
  if (value < least)
    throw UsageError(fmt::format("--{}: found {}, expected at least {}", option, value, least));
  return value;
}

ExtractionOptions read_recording_options(const po::variables_map& values, const ModelSpec& spec,
                                         const std::string& selector) {
  ExtractionOptions options;
  options.sites =
      match_sites(values["sites"].as<std::string>(), spec.sites(), static_cast<int>(spec.n_layers));
  options.tokens = TokenSelector::parse(selector);
  options.store = parse_store_dtype(values);
  options.shard_rows = at_least(values, "shard-rows", 0);
  options.context = read_context(values, spec);
  options.overflow = parse_overflow(values["overflow"].as<std::string>());
  options.skip_first = at_least(values, "skip-first", 0);
  options.batch_tokens = at_least(values, "batch-tokens", 1);
  options.skip_empty = values.count("skip-empty") > 0;
  return options;
}

Inputs read_inputs(const po::variables_map& values, const std::filesystem::path& model, const ModelSpec& spec,
                   const TokenSelector& selector, std::string& tokenizer_fingerprint) {
  if (values.count("texts") + values.count("ids") != 1)
    throw UsageError("expected either --texts or --ids", "--help shows examples");
  if (values.count("ids"))
    return id_inputs(values["ids"].as<std::vector<std::string>>(), selector, spec.vocab);
  TextOptions texts;
  texts.files = values["texts"].as<std::vector<std::string>>();
  texts.column = values["column"].as<std::string>();
  texts.pattern = values["template"].as<std::string>();
  texts.id_column = values["id-column"].as<std::string>();
  if (values.count("bos")) texts.bos = parse_yes_no(values, "bos", false);
  const auto tokenizer = load_tokenizer(model);
  texts.chat = read_chat_options(values, model, *tokenizer);
  if (texts.chat && !texts.bos) texts.bos = false;
  tokenizer_fingerprint = tokenizer->fingerprint();
  Inputs inputs = text_inputs(texts, *tokenizer, selector);
  check_ids(inputs, spec.vocab);
  return inputs;
}

}  // namespace sonde
