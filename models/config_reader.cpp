#include "models/config_reader.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace sonde {
namespace {

// Keys of Hugging Face configs that no family's maths reads: bookkeeping, training, generation defaults.
constexpr std::string_view kHarmless[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "embedding_dropout",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "n_ctx",
    "no_repeat_ngram_size",
    "num_labels",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
};

[[noreturn]] void unclaimed(const std::string& source, const std::string& key, const std::string& value) {
  fail_hint(fmt::format("if it does not change the model's maths, pass --ignore-config-key {}", key),
            "{}: key {}: found {}, which this model's family does not know", source, key, value);
}

std::string brief(std::string text) { return text.size() > 60 ? text.substr(0, 57) + "..." : text; }

}  // namespace

ConfigReader::ConfigReader(const Json& object, std::string source, const IgnoredKeys& ignored,
                           std::string prefix)
    : json_(&object), source_(std::move(source)), prefix_(std::move(prefix)), ignored_(&ignored) {
  if (!object.is_object())
    fail("{}: {}: found {}, expected an object", source_, prefix_.empty() ? "top level" : prefix_,
         object.type_name());
}

const Json* ConfigReader::find(const std::string& key) {
  claimed_.insert(key);
  const auto at = json_->find(key);
  return at == json_->end() || at->is_null() ? nullptr : &*at;
}

bool ConfigReader::has(const std::string& key) const {
  const auto at = json_->find(key);
  return at != json_->end() && !at->is_null();
}

bool ConfigReader::is_null(const std::string& key) const {
  const auto at = json_->find(key);
  return at != json_->end() && at->is_null();
}

void ConfigReader::wrong(const std::string& key, std::string_view expected) const {
  const auto at = json_->find(key);
  const std::string found =
      at == json_->end() ? "nothing" : brief(at->dump(-1, ' ', true, Json::error_handler_t::replace));
  fail("{}: key {}{}: found {}, expected {}", source_, prefix_, key, found, expected);
}

std::int64_t ConfigReader::integer(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr || !value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<std::uint64_t>() > std::uint64_t{1} << 62))
    wrong(key, "an integer");
  return value->get<std::int64_t>();
}
std::int64_t ConfigReader::integer(const std::string& key, std::int64_t otherwise) {
  return find(key) == nullptr ? otherwise : integer(key);
}

double ConfigReader::real(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr || !value->is_number() || !std::isfinite(value->get<double>())) wrong(key, "a number");
  return value->get<double>();
}
double ConfigReader::real(const std::string& key, double otherwise) {
  return find(key) == nullptr ? otherwise : real(key);
}

bool ConfigReader::boolean(const std::string& key, bool otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

std::string ConfigReader::text(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr || !value->is_string()) wrong(key, "a string");
  return value->get<std::string>();
}
std::string ConfigReader::text(const std::string& key, const std::string& otherwise) {
  return find(key) == nullptr ? otherwise : text(key);
}

namespace {

template <class T, class Good>
bool read_array(const Json* value, std::vector<T>& out, const Good& good) {
  if (value == nullptr || !value->is_array()) return false;
  for (const Json& item : *value) {
    if (!good(item)) return false;
    out.push_back(item.get<T>());
  }
  return true;
}

}  // namespace

std::vector<double> ConfigReader::reals(const std::string& key) {
  std::vector<double> values;
  const auto good = [](const Json& x) { return x.is_number() && std::isfinite(x.get<double>()); };
  if (!read_array(find(key), values, good)) wrong(key, "an array of numbers");
  return values;
}
std::vector<std::int64_t> ConfigReader::integers(const std::string& key) {
  std::vector<std::int64_t> values;
  if (!read_array(find(key), values, [](const Json& x) { return x.is_number_integer(); }))
    wrong(key, "an array of integers");
  return values;
}
std::vector<std::string> ConfigReader::texts(const std::string& key) {
  std::vector<std::string> values;
  if (!read_array(find(key), values, [](const Json& x) { return x.is_string(); }))
    wrong(key, "an array of strings");
  return values;
}

void ConfigReader::expect(const std::string& key, const Json& value) {
  const Json* found = find(key);
  if (found != nullptr && *found != value) wrong(key, value.dump());
}

ConfigReader ConfigReader::object(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr || !value->is_object()) wrong(key, "an object");
  return ConfigReader(*value, source_, *ignored_, prefix_ + key + ".");
}

void ConfigReader::finish(const std::vector<std::string_view>& harmless) const {
  for (const auto& [key, value] : json_->items()) {
    const bool known = claimed_.count(key) || ignored_->allowed.count(prefix_ + key) ||
                       (prefix_.empty() && std::ranges::find(kHarmless, key) != std::end(kHarmless)) ||
                       std::ranges::find(harmless, key) != harmless.end();
    if (!known)
      unclaimed(source_, prefix_ + key, brief(value.dump(-1, ' ', true, Json::error_handler_t::replace)));
  }
}

std::int64_t GgufReader::integer(const std::string& key) {
  return claim(key), gguf_->integer(arch_ + "." + key);
}
std::int64_t GgufReader::integer(const std::string& key, std::int64_t otherwise) {
  return has(key) ? integer(key) : otherwise;
}
double GgufReader::real(const std::string& key) { return claim(key), gguf_->real(arch_ + "." + key); }
double GgufReader::real(const std::string& key, double otherwise) { return has(key) ? real(key) : otherwise; }
std::string GgufReader::text(const std::string& key, const std::string& otherwise) {
  return has(key) ? (claim(key), gguf_->text(arch_ + "." + key)) : otherwise;
}

bool GgufReader::boolean(const std::string& key, bool otherwise) {
  return has(key) ? (claim(key), gguf_->boolean(arch_ + "." + key)) : otherwise;
}

void GgufReader::expect(const std::string& key, std::int64_t value) {
  const std::int64_t found = integer(key, value);
  if (found != value) fail("{}: key {}.{}: found {}, expected {}", source(), arch_, key, found, value);
}

void GgufReader::finish(const std::vector<std::string_view>& harmless) const {
  for (const std::string& key : gguf_->keys()) {
    if (!key.starts_with(arch_ + ".")) continue;
    const std::string inner = key.substr(arch_.size() + 1);
    if (claimed_.count(key) || ignored_->allowed.count(key) ||
        std::ranges::find(harmless, inner) != harmless.end())
      continue;
    unclaimed(source(), key, "a value");
  }
}

}  // namespace sonde
