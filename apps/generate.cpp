// sonde generate: prompts in, continuations out.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "apps/command.h"
#include "apps/model_options.h"
#include "apps/progress.h"
#include "apps/prompts.h"
#include "io/hash.h"
#include "io/resumable_lines.h"
#include "models/edit_file.h"
#include "models/end_tokens.h"
#include "models/family.h"
#include "models/generator.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "generate MODEL (--prompts FILE... | --prompt TEXT) --out OUT.jsonl [options]",
    "Continues prompts, {\"id\", \"text\"} or {\"id\", \"ids\"} a line, and writes {\"id\", \"ids\", "
    "\"text\"} "
    "of the\ncontinuations, in order. Many run at once; what a prompt gives does not depend on the others. "
    "Running the\nsame command again resumes a killed run.",
    "  sonde generate model.gguf --prompts prompts.jsonl --max-new 24 --greedy --out out.jsonl\n"
    "  # watch one prompt\n"
    "  sonde generate model/ --prompt 'The capital of France is' --greedy --stream\n"
    "  # sample, the same for the same seed\n"
    "  sonde generate model/ --prompts prompts.jsonl --temperature 0.7 --top-p 0.9 --seed 7 --out out.jsonl\n"
    "  # steer while decoding\n"
    "  sonde generate model/ --prompts prompts.jsonl --greedy --edits edits.json --out steered.jsonl\n"};

po::options_description generate_options() {
  po::options_description o("Options");
  auto add = o.add_options();
  add("prompts", po::value<std::vector<std::string>>()->multitoken(),
      "JSONL, CSV, TSV or plain lines, .gz and .zst");
  add("prompt", po::value<std::string>(), "one prompt");
  add("column", po::value<std::string>()->default_value("text"), "column that holds the text");
  add("id-column", po::value<std::string>()->default_value("id"), "column with the prompts' ids");
  add("bos", po::value<std::string>(), "yes | no: override whether a bos token is put in front");
  add("max-new", po::value<std::int64_t>()->default_value(64), "most tokens of a continuation");
  add("greedy", "take the most probable token");
  add("temperature", po::value<double>()->default_value(1), "divides the logits");
  add("top-k", po::value<std::int64_t>()->default_value(0), "sample from the k most probable (0: all)");
  add("top-p", po::value<double>()->default_value(1), "from the fewest that hold this much probability");
  add("min-p", po::value<double>()->default_value(0), "from those this fraction as probable as the first");
  add("repetition-penalty", po::value<double>()->default_value(1), "of tokens already there; 1: none");
  add("seed", po::value<std::uint64_t>()->default_value(0), "of the draws");
  add("stop", po::value<std::vector<std::string>>()->composing(),
      "end where this text appears, and leave it out (repeatable)");
  add("ignore-eos", "go on behind the model's end tokens");
  add("context", po::value<std::int64_t>()->default_value(0),
      "most tokens of prompt and continuation (0: the model's context)");
  add("sequences", po::value<std::int64_t>()->default_value(16), "prompts that run at once");
  add("edits", po::value<std::string>(),
      "JSON file of edits made during the run (docs/edits.md); `last` is the newest token of every step");
  add("stream", "print the text of one prompt as it comes");
  add("out", po::value<std::string>(), "file to write");
  add_model_options(o);
  return o;
}

GenerateOptions read_generate_options(const po::variables_map& values, const ModelSpec& spec,
                                      const ModelFiles& files) {
  GenerateOptions options;
  options.sampling.greedy = values.count("greedy") > 0;
  options.sampling.temperature = values["temperature"].as<double>();
  options.sampling.top_k = values["top-k"].as<std::int64_t>();
  options.sampling.top_p = values["top-p"].as<double>();
  options.sampling.min_p = values["min-p"].as<double>();
  options.sampling.repetition_penalty = values["repetition-penalty"].as<double>();
  options.sampling.seed = values["seed"].as<std::uint64_t>();
  check_sampling(options.sampling);
  const auto at_least_one = [&](const char* option) {
    const auto value = values[option].as<std::int64_t>();
    if (value < 1) throw UsageError(fmt::format("--{}: found {}, expected at least 1", option, value));
    return value;
  };
  options.max_new = at_least_one("max-new");
  options.sequences = at_least_one("sequences");
  options.context = values["context"].as<std::int64_t>();
  if (options.context < 0 || options.context > spec.context)
    throw UsageError(
        fmt::format("--context: found {}, expected at most the model's {}", options.context, spec.context));
  if (values.count("ignore-eos") == 0) options.end_ids = end_tokens(files);
  return options;
}

// The text of continuations, prompt by prompt.
class Texts {
 public:
  Texts(const Tokenizer* tokenizer, const Prompts& prompts, std::vector<std::string> stops)
      : tokenizer_(tokenizer), prompts_(prompts), stops_(std::move(stops)) {}

  // What the continuation adds to the prompt's text: where joining changes nothing before it, the rest of the
  // whole; a tokenizer that drops a leading space does so at the prompt.
  std::string of(std::size_t prompt, std::span<const std::int32_t> generated) const {
    if (tokenizer_ == nullptr) return {};
    std::vector<std::int32_t> all = prompts_.tokens[prompt];
    const std::string before = tokenizer_->decode(all, true);
    all.insert(all.end(), generated.begin(), generated.end());
    const std::string whole = tokenizer_->decode(all, true);
    return whole.starts_with(before) ? whole.substr(before.size()) : tokenizer_->decode(generated, true);
  }

  // Where the first stop string begins, or npos.
  std::size_t stop_at(const std::string& text) const {
    std::size_t first = std::string::npos;
    for (const std::string& stop : stops_) first = std::min(first, text.find(stop));
    return first;
  }
  bool watched() const { return !stops_.empty(); }

 private:
  const Tokenizer* tokenizer_;
  const Prompts& prompts_;
  std::vector<std::string> stops_;
};

// Bytes of text that will not change: what comes behind may complete a character.
std::size_t settled(const std::string& text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  return text.ends_with(kReplacement) ? text.size() - kReplacement.size() : text.size();
}

std::string identity_of(const po::variables_map& values, const RunIdentity& run, const Prompts& prompts,
                        const Json& edits) {
  Json id = {{"model", run.model_fingerprint}, {"path", run.compute_path}, {"edits", edits}};
  for (const char* key : {"max-new", "top-k", "context"}) id[key] = values[key].as<std::int64_t>();
  for (const char* key : {"temperature", "top-p", "min-p", "repetition-penalty"})
    id[key] = values[key].as<double>();
  id["seed"] = values["seed"].as<std::uint64_t>();
  for (const char* key : {"greedy", "ignore-eos"}) id[key] = values.count(key) > 0;
  if (values.count("stop")) id["stop"] = values["stop"].as<std::vector<std::string>>();
  id["weights"] = name(run.weights);
  id["prompts"] = prompts.tokens;
  id["ids"] = prompts.ids;
  return sha256_hex(json_line(id));
}

Prompts prompts_of(const po::variables_map& values, const FoundTokenizer& tokenizer) {
  if (values.count("prompts") + values.count("prompt") != 1)
    throw UsageError("expected either --prompts or --prompt", "--help shows examples");
  PromptOptions options;
  options.column = values["column"].as<std::string>();
  options.id_column = values["id-column"].as<std::string>();
  if (values.count("bos")) options.bos = parse_yes_no(values, "bos", false);
  if (values.count("prompts")) {
    options.files = values["prompts"].as<std::vector<std::string>>();
    return read_prompts(options, tokenizer);
  }
  const Inputs inputs =
      text_inputs({values["prompt"].as<std::string>()}, {"0"}, options.bos, tokenizer.get());
  return {{Json(0)}, {inputs.documents.tokens}};
}

}  // namespace

int run_generate(const Arguments& arguments) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, generate_options(), {"MODEL"}, values)) return 0;
  const bool stream = values.count("stream") > 0;
  if (!stream && !values.count("out")) throw UsageError("--out is missing", "the file to write, or --stream");

  const ModelOptions model_options = read_model_options(values, values["MODEL"].as<std::string>());
  const ModelFiles files = ModelFiles::open(model_options.path);
  const ModelSpec spec = read_spec(files, model_options.ignored);
  const GenerateOptions options = read_generate_options(values, spec, files);
  const FoundTokenizer tokenizer = find_tokenizer(model_options.path);
  const Prompts prompts = prompts_of(values, tokenizer);
  if (stream && prompts.tokens.size() != 1)
    throw UsageError(fmt::format("--stream: found {} prompts, expected one", prompts.tokens.size()));
  EditFile edits;
  if (values.count("edits")) edits = read_edits(values["edits"].as<std::string>(), spec);
  std::vector<std::string> stops;
  if (values.count("stop")) stops = values["stop"].as<std::vector<std::string>>();
  if (!stops.empty() || stream) tokenizer.get();
  if (!tokenizer.tokenizer)
    fmt::print(stderr, "sonde: warning: no texts are written, only ids: {}\n", tokenizer.missing);
  const Texts texts(tokenizer.tokenizer.get(), prompts, std::move(stops));

  const auto backend = make_backend(values);
  const Model model = Model::load(model_options.path, load_options(model_options, true), *backend);
  const RunIdentity run = run_identity(model_options, *backend, model);
  std::unique_ptr<ResumableLines> lines;
  if (values.count("out"))
    lines = std::make_unique<ResumableLines>(values["out"].as<std::string>(),
                                             identity_of(values, run, prompts, edits.json));
  const std::size_t done_before = lines ? lines->found().size() : 0;
  const std::vector<std::vector<std::int32_t>> todo(
      prompts.tokens.begin() + static_cast<std::ptrdiff_t>(done_before), prompts.tokens.end());
  fmt::print(stderr, "{} on {}, {} ({})\n{} prompts{}\n", model.name, backend->describe(),
             model_options.dtype, run.compute_path, prompts.tokens.size(),
             done_before > 0 ? fmt::format(", {} of them done before", done_before) : "");

  Generator generator(model, *backend, options, std::move(edits.edits), done_before);
  std::vector<std::string> finished(prompts.tokens.size());  // lines that wait for those before them
  std::size_t written = done_before, printed = 0;
  std::int64_t tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  generator.run(
      todo,
      [&](std::size_t i, std::span<const std::int32_t> generated) {
        ++tokens;
        if (!stream && !texts.watched()) return false;
        const std::string text = texts.of(i + done_before, generated);
        const std::size_t stop = texts.stop_at(text);
        if (stream) {
          const std::size_t end = std::min(stop, settled(text));
          if (end > printed) {
            fmt::print("{}", std::string_view(text).substr(printed, end - printed));
            std::fflush(stdout);
            printed = end;
          }
        }
        return stop != std::string::npos;
      },
      [&](std::size_t i, const Generated& generated) {
        const std::size_t prompt = i + done_before;
        std::string text = texts.of(prompt, generated.ids);
        text.resize(std::min(text.size(), texts.stop_at(text)));
        Json line = {{"id", prompts.ids[prompt]}, {"ids", generated.ids}};
        line["text"] = tokenizer.tokenizer ? Json(text) : Json(nullptr);
        line["stop"] = name(generated.stop);
        finished[prompt] = json_line(line);
        for (; lines && written < finished.size() && !finished[written].empty(); ++written)
          lines->append(std::exchange(finished[written], {}));
      });
  if (stream) fmt::print("\n");
  if (lines) lines->finish();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print(stderr, "done: {} new tokens in {}, {:.1f} tok/s\n", tokens, human_seconds(seconds),
             static_cast<double>(tokens) / seconds);
  return 0;
}

}  // namespace sonde
