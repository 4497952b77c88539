// sonde generate: prompts in, continuations out.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "apps/command.h"
#include "apps/continuations.h"
#include "apps/model_options.h"
#include "apps/progress.h"
#include "apps/prompts.h"
#include "apps/rank_lines.h"
#include "apps/ranks.h"
#include "io/hash.h"
#include "models/edit_file.h"
#include "models/end_tokens.h"
#include "models/family.h"
#include "models/generation_store.h"
#include "models/transformer.h"
#include "runtime/error.h"
#include "runtime/memory.h"

namespace sonde {
namespace {

const Help kHelp = {
    "generate MODEL (--prompts FILE... | --prompt TEXT) --out OUT.jsonl [options]",
    "Continues prompts, {\"id\", \"text\"} or {\"id\", \"ids\"} a line, and writes {\"id\", \"ids\", "
    "\"text\", \"stop\"} a "
    "line, in\norder. ids are the new tokens alone, without the prompt's, with the end token if there was "
    "one; "
    "text is what they\nadd to the prompt's text, without that end token and before any --stop; stop says "
    "why it "
    "ended: end_token,\nstop_string, max_new, context. Prompts given as text get the special tokens that the "
    "tokenizer itself adds (--bos\noverrides), as for extract. Many prompts run at once; what a prompt gives "
    "does "
    "not depend on the others. Running\nthe same command again resumes a killed run.",
    "  sonde generate model.gguf --prompts prompts.jsonl --max-new 24 --greedy --out out.jsonl\n"
    "  # watch one prompt\n"
    "  sonde generate model/ --prompt 'The capital of France is' --greedy --stream\n"
    "  # sample, the same for the same seed\n"
    "  sonde generate model/ --prompts prompts.jsonl --temperature 0.7 --top-p 0.9 --seed 7 --out out.jsonl\n"
    "  # steer while decoding, and record what every step looked like\n"
    "  sonde generate model/ --prompts prompts.jsonl --greedy --edits edits.json --out steered.jsonl \\\n"
    "      --sites 'blocks.*.hook_resid_post' --captures steered-acts/\n"};

po::options_description generate_options() {
  po::options_description o("Options");
  auto add = o.add_options();
  add("prompts", po::value<std::vector<std::string>>()->multitoken(),
      "JSONL, CSV, TSV or plain lines, .gz and .zst");
  add("prompt", po::value<std::string>(), "one prompt");
  add("column", po::value<std::string>()->default_value("text"), "column that holds the text");
  add("id-column", po::value<std::string>()->default_value("id"), "column with the prompts' ids");
  add("bos", po::value<std::string>(), "yes | no: override whether a bos token is put in front");
  add_chat_options(o);
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
  add("sites,site", po::value<std::string>(), "points to record while decoding, as for extract");
  add("captures", po::value<std::string>(),
      "folder of the store for --sites: every token of prompts and continuations that the model read");
  add("store", po::value<std::string>()->default_value("f32"), "f32 | bf16 | f16: values in that store");
  add("stream", "print the text of one prompt as it comes");
  add("out", po::value<std::string>(), "file to write");
  add_model_options(o);
  add_mesh_options(o);
  return o;
}

GenerateOptions read_generate_options(const po::variables_map& values, const ModelSpec& spec,
                                      const ModelFiles& files) {
  GenerateOptions options;
  options.sampling.greedy = values.count("greedy") > 0;
  for (const char* key : {"temperature", "top-k", "top-p", "min-p", "seed"})
    if (options.sampling.greedy && !values[key].defaulted())
      throw UsageError(fmt::format("--greedy takes the most probable token: found --{} beside it", key));
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
  options.context = read_context(values, spec);
  if (values.count("ignore-eos") == 0) options.end_ids = end_tokens(files);
  return options;
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
  id["tokenizer"] = run.tokenizer_fingerprint;
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
  if (asks_for_chat(values)) {
    options.chat = read_chat_options(values, values["MODEL"].as<std::string>(), tokenizer.get());
    if (!options.bos) options.bos = false;
  }
  if (values.count("prompts")) {
    options.files = values["prompts"].as<std::vector<std::string>>();
    return read_prompts(options, tokenizer);
  }
  std::string prompt = values["prompt"].as<std::string>();
  if (options.chat) prompt = options.chat(prompt, false, "--prompt");
  const Inputs inputs = text_inputs({prompt}, {"0"}, options.bos, tokenizer.get());
  return {{Json(0)}, {inputs.documents.tokens}};
}

// --sites and --captures.
struct Captures {
  std::filesystem::path out;
  ExtractionOptions options;
};
std::optional<Captures> read_captures(const po::variables_map& values, const ModelSpec& spec,
                                      const GenerateOptions& generate) {
  if (values.count("sites") != values.count("captures"))
    throw UsageError("--sites and --captures go together", "what to record, and the folder of the store");
  if (!values.count("sites")) return std::nullopt;
  Captures captures{values["captures"].as<std::string>(), {}};
  ExtractionOptions& options = captures.options;
  options.sites =
      match_sites(values["sites"].as<std::string>(), spec.sites(), static_cast<int>(spec.n_layers));
  options.tokens = TokenSelector::parse("all");
  options.store = parse_store_dtype(values);
  options.context = generate.context;
  return captures;
}

void record(const Captures& captures, const Model& model, Backend& backend, RunIdentity run,
            const GenerateOptions& options, std::vector<Edit> edits, const Prompts& prompts,
            const std::vector<std::vector<std::int32_t>>& continuations, const Mesh& mesh, bool speaks) {
  std::vector<KnownText> texts;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < continuations.size(); ++i) {
    texts.push_back({prompts.tokens[i], prompts.tokens[i].size()});
    texts[i].ids.insert(texts[i].ids.end(), continuations[i].begin(), continuations[i].end());
    names.push_back(id_text(prompts.ids[i]));
  }
  const TextRecording recording =
      plan_recording(model.spec, std::move(texts), std::move(names), captures.options);
  StoreSchema schema = make_schema(model.spec, recording.inputs, recording.options, recording.plan, run);
  std::vector<std::size_t> lengths;
  for (const auto& tokens : prompts.tokens) lengths.push_back(tokens.size());
  schema.identity["generate"] = {{"prompt_lengths_sha256", sha256_hex(Json(lengths).dump())}};
  std::unique_ptr<StoreWriter> writer;
  if (mesh.leads()) writer = StoreWriter::open(captures.out, schema, store_documents(recording.inputs));
  if (speaks)
    fmt::print(stderr, "recording {} rows at {} sites in {}\n", schema.total_rows, schema.sites.size(),
               captures.out.string());
  ProgressLine progress;
  record_texts(model, backend, recording, options, std::move(edits), writer.get(), mesh,
               [&](const Progress& p) {
                 if (speaks) progress(p);
               });
  if (speaks) progress.finish();
}

// Bytes that keys and values may take: of a device's memory what the batch leaves.
std::int64_t cache_limit(const Backend& backend, const ModelSpec& spec, const RunNeeds& needs) {
  const std::int64_t left = backend.memory_left();
  if (left < 0) return available_memory_bytes() / 5 * 4;
  return std::max(needs.fixed, left / 5 * 4 -
                                   Transformer::workspace_bytes(spec, needs.tokens, backend.device()) -
                                   3 * Transformer::logits_bytes(spec));
}

}  // namespace

int run_generate(const Arguments& arguments, Communicator& world) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, generate_options(), {"MODEL"}, values)) return 0;
  const bool stream = values.count("stream") > 0;
  if (!stream && !values.count("out")) throw UsageError("--out is missing", "the file to write, or --stream");

  const bool speaks = world.rank() == 0;
  const Mesh mesh = lay_out_ranks(values, world, ModelRanks::all);
  const ModelOptions model_options = read_model_options(values, values["MODEL"].as<std::string>());
  const ModelFiles files = ModelFiles::open(model_options.path);
  const ModelSpec spec = read_spec(files, model_options.ignored);
  GenerateOptions options = read_generate_options(values, spec, files);
  const std::optional<Captures> captures = read_captures(values, spec, options);
  const FoundTokenizer tokenizer = find_tokenizer(model_options.path);
  const Prompts prompts = prompts_of(values, tokenizer);
  if (stream && prompts.tokens.size() != 1)
    throw UsageError(fmt::format("--stream: found {} prompts, expected one", prompts.tokens.size()));
  const auto read = [&] {
    return values.count("edits") ? read_edits(values["edits"].as<std::string>(), spec) : EditFile{};
  };
  EditFile edits = read();
  for (std::size_t i = 0; i < prompts.ids.size(); ++i) {
    const std::string name = "prompt " + id_text(prompts.ids[i]);
    const auto length = static_cast<std::int64_t>(prompts.tokens[i].size());
    check_prompt(name, prompts.tokens[i], spec, options);
    check_edits(edits.edits, spec, static_cast<std::int64_t>(i), name, length);
  }
  std::vector<std::string> stops;
  if (values.count("stop")) stops = values["stop"].as<std::vector<std::string>>();
  for (const std::string& stop : stops)
    if (stop.empty()) throw UsageError("--stop: found an empty text, expected one to stop at");
  if (!stops.empty() || stream) tokenizer.get();
  if (speaks && !tokenizer.tokenizer)
    fmt::print(stderr, "sonde: warning: no texts are written, only ids: {}\n", tokenizer.missing);
  const Continuations texts(tokenizer.tokenizer.get(), prompts, std::move(stops));

  const auto backend =
      make_backend(values, captures ? captures->out / "algorithms.txt" : std::filesystem::path(), mesh.local);
  const ModelSpec part =
      Stage::of(spec, mesh.pipeline_index, mesh.shape.pipeline)
          .part_of(TensorShard::of(spec, mesh.tensor_index, mesh.shape.tensor).part_of(spec));
  RunNeeds needs{.tokens = options.batch_tokens + options.sequences, .logits = true};
  for (const auto& tokens : prompts.tokens)  // keys and values of one sequence at least
    needs.fixed =
        std::max(needs.fixed,
                 Generator::cache_bytes(part, 1, static_cast<std::int64_t>(tokens.size()) + options.max_new));
  const Model model = load_model(model_options, load_options(model_options, {}, mesh), *backend, needs);
  say_links(model, speaks);
  RunIdentity run = run_identity(model_options, *backend, model);
  if (tokenizer.tokenizer) run.tokenizer_fingerprint = tokenizer.tokenizer->fingerprint();
  run.edits = edits.json;
  // The same on all ranks, which run the same batches; those of a node share its memory.
  const int sharing = ranks_here(world);
  options.cache_limit = world.all_reduce(
      cache_limit(*backend, part, needs) / (backend->memory_left() < 0 ? sharing : 1), Reduce::min);
  std::unique_ptr<RankLines> lines;
  if (values.count("out"))
    lines = std::make_unique<RankLines>(values["out"].as<std::string>(),
                                        identity_of(values, run, prompts, edits.json), world);
  const std::size_t done_before = lines ? lines->found().size() : 0, count = prompts.tokens.size();
  const std::vector<std::vector<std::int32_t>> todo(
      prompts.tokens.begin() + static_cast<std::ptrdiff_t>(done_before), prompts.tokens.end());
  if (speaks)
    fmt::print(stderr, "{} on {}, {} ({})\n{} prompts{}\n", model.name, backend->describe(),
               model_options.dtype, run.compute_path, count,
               done_before > 0 ? fmt::format(", {} of them done before", done_before) : "");

  // The end token of a finished text is not shown.
  const auto shown = [&](std::span<const std::int32_t> ids) {
    return ids.first(ids.size() - (!ids.empty() && options.end_ids.count(ids.back()) > 0 ? 1 : 0));
  };
  std::vector<std::vector<std::int32_t>> continuations;
  for (std::size_t i = 0; i < done_before; ++i)
    continuations.push_back(
        parse_json(lines->found()[i], "a line written before")["ids"].get<std::vector<std::int32_t>>());
  continuations.resize(count);
  std::vector<std::string> finished(count);  // lines that wait for those before them
  std::size_t written = done_before, printed = 0, ended = done_before;
  std::int64_t tokens = 0;
  const auto print_until = [&](const std::string& text, std::size_t end) {
    if (end <= printed) return;
    fmt::print("{}", std::string_view(text).substr(printed, end - printed));
    std::fflush(stdout);
    printed = end;
  };
  ProgressLine progress;
  auto generator = std::make_unique<Generator>(model, *backend, options, std::move(edits.edits), done_before);
  generator->run(
      todo,
      [&](std::size_t i, std::span<const std::int32_t> generated) {
        ++tokens;
        world.beat();
        if (!stream) {
          if (speaks)
            progress.show(fmt::format("{} of {} prompts  {} tokens  {:.1f} tok/s", ended, count, tokens,
                                      static_cast<double>(tokens) / progress.seconds()),
                          false);
          if (!texts.has_stops()) return false;
        }
        const std::string text = texts.text(i + done_before, shown(generated));
        const std::size_t stop = texts.stop_at(text);
        if (stream) print_until(text, std::min(stop, texts.settled(text)));
        return stop != std::string::npos;
      },
      [&](std::size_t i, const Generated& generated) {
        const std::size_t prompt = i + done_before;
        std::string text = texts.text(prompt, shown(generated.ids));
        text.resize(std::min(text.size(), texts.stop_at(text)));
        if (stream) print_until(text, text.size());
        continuations[prompt] = generated.ids;
        Json line = {{"id", prompts.ids[prompt]}, {"ids", generated.ids}};
        line["text"] = tokenizer.tokenizer ? Json(text) : Json(nullptr);
        line["stop"] = name(generated.stop);
        finished[prompt] = json_line(line);
        ++ended;
        for (; lines && written < count && !finished[written].empty(); ++written)
          lines->append(std::exchange(finished[written], {}));
      });
  generator.reset();
  if (stream) fmt::print("\n");
  if (speaks) progress.finish();
  const double seconds = progress.seconds();
  if (captures) {
    if (lines) lines->flush();
    record(*captures, model, *backend, run, options, read().edits, prompts, continuations, mesh, speaks);
  }
  if (lines) lines->finish();
  if (speaks)
    fmt::print(stderr, "done: {} new tokens in {}, {:.1f} tok/s\n", tokens, human_seconds(seconds),
               static_cast<double>(tokens) / seconds);
  return 0;
}

}  // namespace sonde
