// sonde score: how probable a model finds texts, token by token; and which of several continuations most.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include "apps/command.h"
#include "apps/model_options.h"
#include "apps/progress.h"
#include "apps/prompts.h"
#include "apps/rank_lines.h"
#include "apps/ranks.h"
#include "io/hash.h"
#include "io/table.h"
#include "models/edit_file.h"
#include "models/family.h"
#include "models/scoring.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "score MODEL (--texts FILE... | --ids FILE...) --out OUT.jsonl [options]",
    "Writes {\"id\", \"loss\", \"perplexity\", \"log_probs\": [..]} of every document, in order: the natural "
    "log "
    "of the\nprobability of its second token, its third, ... (one fewer than it has tokens); loss is minus "
    "their "
    "mean,\nperplexity its exponential. Texts get the special tokens that the tokenizer itself adds (--bos "
    "overrides), as\nfor extract. A document of one token has loss null; one split by --overflow split has "
    "no "
    "value for the first\ntoken of each piece. The loss over all tokens is printed at the end.\n"
    "With --choices: {\"id\", \"log_probs\": [sum of each choice], \"choice\", \"choice_per_token\", "
    "\"choice_per_byte\",\n\"answer\", \"correct\"}: the most probable continuation, by its sum, by its mean "
    "over "
    "tokens, and over bytes;\naccuracies are printed at the end. Running the same command again resumes a "
    "killed "
    "run.",
    "  sonde score model.gguf --texts corpus.jsonl --out scores.jsonl\n"
    "  sonde score model/ --ids ids.jsonl --out scores.jsonl\n"
    "  # multiple choice: rows {\"text\": \"Water boils at\", \"choices\": [\" 100 C\", \" 5 C\"], "
    "\"answer\": "
    "0}\n"
    "  sonde score model/ --texts quiz.jsonl --choices choices --answer answer --out ranked.jsonl\n"
    "  # what an intervention costs\n"
    "  sonde score model/ --texts corpus.jsonl --edits edits.json --out ablated.jsonl\n"};

po::options_description score_options() {
  po::options_description o("Options");
  auto add = o.add_options();
  add("texts", po::value<std::vector<std::string>>()->multitoken(),
      "JSONL, CSV, TSV or plain lines, .gz and .zst; files or globs");
  add("ids", po::value<std::vector<std::string>>()->multitoken(),
      "token ids: JSONL with {\"ids\": [..]} a line");
  add("column", po::value<std::string>()->default_value("text"), "column that holds the text");
  add("template", po::value<std::string>()->default_value(""), "text made of columns: 'Q: {question} A:'");
  add("id-column", po::value<std::string>()->default_value("id"), "column with the documents' ids");
  add("bos", po::value<std::string>(), "yes | no: override whether a bos token is put in front");
  add("choices", po::value<std::string>(), "column with a JSON array of continuations to rank");
  add("answer", po::value<std::string>(), "column with the number of the right one, from 0");
  add("context", po::value<std::int64_t>()->default_value(0),
      "most tokens of a sequence (0: the model's context)");
  add("overflow", po::value<std::string>()->default_value("error"),
      "longer documents: error | truncate | split");
  add("batch-tokens", po::value<std::int64_t>()->default_value(2048), "token budget of a batch");
  add("skip-empty", "leave documents without tokens out instead of stopping");
  add("edits", po::value<std::string>(), "JSON file of edits made during the run (docs/edits.md)");
  add("out", po::value<std::string>(), "file to write");
  add_chat_options(o);
  add_model_options(o);
  add_mesh_options(o);
  return o;
}

// What runs: documents, or context + continuation for every choice of every question.
struct Work {
  Prompts prompts;                                   // of the documents, or the questions
  Inputs inputs;                                     // sequences to run
  std::vector<std::size_t> first;                    // questions: first input of each; one past the last
  std::vector<std::size_t> context_tokens;           // of each input
  std::vector<double> bytes;                         // of each input's continuation
  std::vector<std::optional<std::int64_t>> answers;  // of each question
};

PromptOptions prompt_options(const po::variables_map& values, const FoundTokenizer& tokenizer) {
  PromptOptions options;
  const char* key = values.count("ids") ? "ids" : "texts";
  options.files = values[key].as<std::vector<std::string>>();
  options.column = values["column"].as<std::string>();
  options.pattern = values["template"].as<std::string>();
  options.id_column = values["id-column"].as<std::string>();
  if (values.count("bos")) options.bos = parse_yes_no(values, "bos", false);
  options.ids_only = values.count("ids") > 0;
  if (asks_for_chat(values)) {
    options.chat = read_chat_options(values, values["MODEL"].as<std::string>(), tokenizer.get());
    if (!options.bos) options.bos = false;
  }
  return options;
}

// A question's choices and the number of the right one, as its row has them.
void add_question(Work& work, const Table& table, std::int64_t row, const std::string& choices,
                  const std::string& answer, std::vector<std::string>& texts) {
  const auto i = static_cast<std::size_t>(row);
  const Json list = parse_json(table.column(choices)[i], table.where(row));
  const auto usable = [](const Json& choice) {
    return choice.is_string() && !choice.get_ref<const std::string&>().empty();
  };
  if (!list.is_array() || list.size() < 2 || !std::ranges::all_of(list, usable))
    fail_hint("{\"choices\": [\" yes\", \" no\"]}: mind the space in front",
              "{}: column {}: found {}, expected an array of at least two texts that are not empty",
              table.where(row), choices, table.column(choices)[i].substr(0, 80));
  work.first.push_back(texts.size());
  for (const Json& choice : list) texts.push_back(choice.get<std::string>());
  work.answers.emplace_back();
  if (answer.empty()) return;
  const Json number = parse_json(table.column(answer)[i], table.where(row));
  if (!number.is_number_integer() || number < 0 || number >= list.size())
    fail("{}: column {}: found {}, expected the number of a choice, 0 to {}", table.where(row), answer,
         number.dump(), list.size() - 1);
  work.answers.back() = number.get<std::int64_t>();
}

// A continuation's tokens are those of the whole text behind as many as the question alone has.
Work choices_work(const po::variables_map& values, const FoundTokenizer& tokenizer) {
  const PromptOptions options = prompt_options(values, tokenizer);
  const std::string column = values["choices"].as<std::string>();
  const std::string answer = values.count("answer") ? values["answer"].as<std::string>() : "";
  const Table table = read_table(options.files);
  if (table.has("ids")) fail("{}: found token ids, expected texts: choices are texts", table.where(0));
  Work work;
  work.prompts = read_prompts(options, tokenizer);
  std::vector<std::string> texts, names;  // of the choices: alone, then behind their questions
  for (std::int64_t row = 0; row < table.rows(); ++row) {
    const std::size_t before = texts.size();
    add_question(work, table, row, column, answer, texts);
    const auto place = static_cast<std::size_t>(row);
    const bool messages = options.chat && table.has("messages");
    std::string question = messages                  ? table.column("messages")[place]
                           : options.pattern.empty() ? table.column(options.column)[place]
                                                     : fill_template(options.pattern, table, row);
    if (options.chat) question = options.chat(question, messages, table.where(row));
    for (std::size_t c = before; c < texts.size(); ++c) {
      work.bytes.push_back(static_cast<double>(texts[c].size()));
      texts[c] = question + texts[c];
      names.push_back(
          fmt::format("{} choice {}", id_text(work.prompts.ids[static_cast<std::size_t>(row)]), c - before));
      work.context_tokens.push_back(work.prompts.tokens[static_cast<std::size_t>(row)].size());
    }
  }
  work.first.push_back(texts.size());
  work.inputs = text_inputs(texts, names, options.bos, tokenizer.get());
  for (std::size_t i = 0; i < names.size(); ++i)
    if (const auto n = static_cast<std::int64_t>(work.context_tokens[i]),
        all = work.inputs.length(static_cast<std::int64_t>(i));
        n == 0 || n >= all)
      fail(
          "{}: the text and the choice make {} and {} tokens, expected a text of at least one and a choice "
          "that adds some",
          names[i], n, all);
  return work;
}

// The choice of the largest value.
std::size_t best_of(const std::vector<double>& values) {
  return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
}

// Ranks each question's choices as their log-probabilities come.
class Ranking {
 public:
  Ranking(const Work& work, std::size_t first_question) : work_(work), question_(first_question) {}

  // The line of a question whose last choice this was, or nothing.
  std::optional<Json> add(std::size_t input, const std::vector<double>& log_probs) {
    const auto from = static_cast<std::ptrdiff_t>(work_.context_tokens[input]) - 1;
    sums_.push_back(std::accumulate(log_probs.begin() + from, log_probs.end(), 0.0));
    tokens_.push_back(static_cast<double>(log_probs.size()) - static_cast<double>(from));
    bytes_.push_back(work_.bytes[input]);
    if (input + 1 < work_.first[question_ + 1]) return std::nullopt;
    const auto over = [&](const std::vector<double>& units) {
      std::vector<double> ratio;
      for (std::size_t i = 0; i < sums_.size(); ++i) ratio.push_back(sums_[i] / units[i]);
      return best_of(ratio);
    };
    Json line = {{"id", work_.prompts.ids[question_]},
                 {"log_probs", sums_},
                 {"choice", best_of(sums_)},
                 {"choice_per_token", over(tokens_)},
                 {"choice_per_byte", over(bytes_)}};
    if (const auto answer = work_.answers[question_]) {
      line["answer"] = *answer;
      line["correct"] = line["choice"] == *answer;
    }
    sums_.clear(), tokens_.clear(), bytes_.clear();
    ++question_;
    return line;
  }

 private:
  const Work& work_;
  std::size_t question_;
  std::vector<double> sums_, tokens_, bytes_;
};

// Sums over all lines, those of an earlier start too.
class Totals {
 public:
  void add(const Json& line) {
    ++lines_;
    if (line.contains("loss")) {
      for (const Json& log_prob : line["log_probs"]) {
        loss_ -= log_prob.is_number() ? log_prob.get<double>() : -HUGE_VAL;  // JSON has no infinity
        ++tokens_;
      }
    } else if (line.contains("answer")) {
      ++asked_;
      for (std::size_t i = 0; i < std::size(kRules); ++i) right_[i] += line[kRules[i]] == line["answer"];
    }
  }
  std::size_t lines() const { return lines_; }

  void print() const {
    for (std::size_t i = 0; i < std::size(kRules) && asked_ > 0; ++i)
      fmt::print("accuracy by {:<17} {:.4f} ({} of {})\n", kRules[i],
                 static_cast<double>(right_[i]) / static_cast<double>(asked_), right_[i], asked_);
    if (tokens_ > 0)
      fmt::print("loss {:.6f} perplexity {:.4f} over {:.0f} tokens\n", loss_ / tokens_,
                 std::exp(loss_ / tokens_), tokens_);
  }

 private:
  static constexpr const char* kRules[] = {"choice", "choice_per_token", "choice_per_byte"};
  std::size_t lines_ = 0, asked_ = 0, right_[std::size(kRules)] = {};
  double loss_ = 0, tokens_ = 0;
};

// The document that comes behind n scored ones; those that do not run have no line.
std::size_t document_behind(const ExtractionPlan& plan, std::size_t n) {
  std::int64_t last = -1;
  for (std::size_t s = 0; s + 1 < plan.sequences.size(); ++s) {
    const std::int64_t document = plan.sequences[s].document;
    if (document == last) continue;
    if (n-- == 0) return static_cast<std::size_t>(document);
    last = document;
  }
  return std::numeric_limits<std::size_t>::max() / 2;
}

Json number_or_null(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

std::string identity_of(const po::variables_map& values, const RunIdentity& run, const Work& work,
                        const Json& edits) {
  Json id = {{"model", run.model_fingerprint}, {"path", run.compute_path}, {"edits", edits}};
  for (const char* key : {"context", "batch-tokens"}) id[key] = values[key].as<std::int64_t>();
  id["overflow"] = values["overflow"].as<std::string>();
  id["weights"] = name(run.weights);
  id["skip_empty"] = values.count("skip-empty") > 0;
  for (const char* key : {"choices", "answer"})
    if (values.count(key)) id[key] = values[key].as<std::string>();
  id["tokens"] = work.inputs.documents.tokens;
  id["starts"] = work.inputs.documents.starts;
  id["ids"] = work.prompts.ids;
  return sha256_hex(json_line(id));
}

}  // namespace

int run_score(const Arguments& arguments, Communicator& world) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, score_options(), {"MODEL"}, values)) return 0;
  if (!values.count("out")) throw UsageError("--out is missing", "--help shows examples");
  if (values.count("texts") + values.count("ids") != 1)
    throw UsageError("expected either --texts or --ids", "--help shows examples");
  const bool choices = values.count("choices") > 0;
  if (choices && values.count("ids")) throw UsageError("--choices needs --texts");
  if (!choices && values.count("answer")) throw UsageError("--answer needs --choices");

  const bool speaks = world.rank() == 0;
  const Mesh mesh = lay_out_ranks(values, world, ModelRanks::all);
  const ModelOptions model_options = read_model_options(values, values["MODEL"].as<std::string>());
  const ModelSpec spec = read_spec(ModelFiles::open(model_options.path), model_options.ignored);
  const FoundTokenizer tokenizer = find_tokenizer(model_options.path);
  Work work;
  if (choices) {
    work = choices_work(values, tokenizer);
  } else {
    work.prompts = read_prompts(prompt_options(values, tokenizer), tokenizer);
    work.inputs = documents_of(work.prompts);
  }
  check_ids(work.inputs, spec.vocab);
  ExtractionOptions options;
  options.tokens = TokenSelector::parse("all");
  options.context = read_context(values, spec);
  options.overflow = parse_overflow(values["overflow"].as<std::string>());
  options.batch_tokens = values["batch-tokens"].as<std::int64_t>();
  options.skip_empty = values.count("skip-empty") > 0;
  if (options.batch_tokens < 1)
    throw UsageError(fmt::format("--batch-tokens: found {}, expected at least 1", options.batch_tokens));
  if (choices && options.overflow != Overflow::error)
    throw UsageError("--choices: a question cannot be cut, --overflow must be error");
  EditFile edits;
  if (values.count("edits")) edits = read_edits(values["edits"].as<std::string>(), spec);

  const ExtractionPlan plan = plan_extraction(spec, work.inputs, options);
  check_edits(edits.edits, spec, work.inputs, plan);

  const auto backend = make_backend(values, {}, mesh.local);
  const Model model = load_model(model_options, load_options(model_options, {}, mesh), *backend,
                                 {.tokens = plan.largest_batch, .logits = true});
  say_links(model, speaks);
  const RunIdentity run = run_identity(model_options, *backend, model);
  RankLines lines(values["out"].as<std::string>(), identity_of(values, run, work, edits.json), world);
  if (speaks)
    fmt::print(stderr, "{} on {}, {} ({})\n{} {}, {} tokens\n", model.name, backend->describe(),
               model_options.dtype, run.compute_path, work.prompts.ids.size(),
               choices ? "questions" : "documents", plan.tokens);
  Totals totals;
  for (const std::string& line : lines.found()) totals.add(parse_json(line, "a line written before"));
  if (speaks && totals.lines() > 0) fmt::print(stderr, "resuming: {} lines are there\n", totals.lines());
  const std::size_t done = totals.lines();
  const std::size_t first = choices ? work.first[done] : document_behind(plan, done);

  ProgressLine progress;
  Ranking ranking(work, done);
  score_documents(
      model, *backend, work.inputs, options, plan, std::move(edits.edits), static_cast<std::int64_t>(first),
      [&](std::int64_t d, const std::vector<double>& log_probs) {
        std::optional<Json> line;
        if (choices) {
          line = ranking.add(static_cast<std::size_t>(d), log_probs);
        } else {
          const double mean = mean_loss(log_probs);
          line = Json{{"id", work.prompts.ids[static_cast<std::size_t>(d)]},
                      {"loss", number_or_null(mean)},
                      {"perplexity", number_or_null(std::exp(mean))},
                      {"log_probs", log_probs}};
        }
        if (!line) return;
        lines.append(json_line(*line));
        totals.add(*line);
      },
      [&](const Progress& p) {
        world.beat();
        if (speaks) progress(p);
      });
  if (speaks) progress.finish();
  lines.finish();
  totals.print();
  return 0;
}

}  // namespace sonde
