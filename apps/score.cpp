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
#include "io/hash.h"
#include "io/resumable_lines.h"
#include "io/table.h"
#include "models/edit_file.h"
#include "models/family.h"
#include "models/scoring.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "score MODEL (--texts FILE... | --ids FILE...) --out OUT.jsonl [options]",
    "Writes {\"id\", \"loss\", \"perplexity\", \"log_probs\": [..]} of every document: the natural log of "
    "the\n"
    "probability of its second token, its third, ...; loss is minus their mean. Running the same command "
    "again\nresumes a killed run.",
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
  add_model_options(o);
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

PromptOptions prompt_options(const po::variables_map& values) {
  PromptOptions options;
  const char* key = values.count("ids") ? "ids" : "texts";
  options.files = values[key].as<std::vector<std::string>>();
  options.column = values["column"].as<std::string>();
  options.pattern = values["template"].as<std::string>();
  options.id_column = values["id-column"].as<std::string>();
  if (values.count("bos")) options.bos = parse_yes_no(values, "bos", false);
  return options;
}

// A continuation's tokens are those of the whole text behind as many as the question alone has.
Work choices_work(const po::variables_map& values, const Tokenizer& tokenizer) {
  const PromptOptions options = prompt_options(values);
  const Table table = read_table(options.files);
  const auto& lists = table.column(values["choices"].as<std::string>());
  Work work;
  Prompts all;
  std::vector<std::string> questions, wholes, names;
  for (std::int64_t row = 0; row < table.rows(); ++row) {
    const auto i = static_cast<std::size_t>(row);
    const std::string question = options.pattern.empty() ? table.column(options.column)[i]
                                                         : fill_template(options.pattern, table, row);
    const Json list = parse_json(lists[i], table.where(row));
    if (!list.is_array() || list.size() < 2)
      fail("{}: column {}: expected an array of at least two texts", table.where(row),
           values["choices"].as<std::string>());
    work.prompts.ids.push_back(table.has(options.id_column) ? Json(table.column(options.id_column)[i])
                                                            : Json(row));
    work.first.push_back(wholes.size());
    for (const Json& choice : list) {
      if (!choice.is_string() || choice.get<std::string>().empty())
        fail("{}: column {}: expected texts that are not empty", table.where(row),
             values["choices"].as<std::string>());
      questions.push_back(question);
      wholes.push_back(question + choice.get<std::string>());
      names.push_back(fmt::format("{} choice {}", json_line(work.prompts.ids.back()), names.size()));
      work.bytes.push_back(static_cast<double>(choice.get<std::string>().size()));
    }
    work.answers.emplace_back();
    if (values.count("answer")) {
      const Json answer = parse_json(table.column(values["answer"].as<std::string>())[i], table.where(row));
      if (!answer.is_number_integer() || answer < 0 || answer >= list.size())
        fail("{}: column {}: found {}, expected 0 to {}", table.where(row),
             values["answer"].as<std::string>(), answer.dump(), list.size() - 1);
      work.answers.back() = answer.get<std::int64_t>();
    }
  }
  work.first.push_back(wholes.size());
  work.inputs = text_inputs(wholes, names, options.bos, tokenizer);
  const Inputs contexts = text_inputs(questions, names, options.bos, tokenizer);
  for (std::int64_t i = 0; i < work.inputs.size(); ++i) {
    const std::int64_t n = contexts.length(i);
    if (n == 0 || n >= work.inputs.length(i))
      fail(
          "{}: the text and the choice make {} and {} tokens, expected a text of at least one and a choice "
          "that adds some",
          names[static_cast<std::size_t>(i)], n, work.inputs.length(i));
    work.context_tokens.push_back(static_cast<std::size_t>(n));
  }
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

void print_accuracy(const std::vector<Json>& lines) {
  for (const char* key : {"choice", "choice_per_token", "choice_per_byte"}) {
    std::size_t right = 0, asked = 0;
    for (const Json& line : lines)
      if (line.contains("answer")) {
        ++asked;
        right += line[key] == line["answer"];
      }
    if (asked > 0)
      fmt::print("accuracy by {:<17} {:.4f} ({} of {})\n", key,
                 static_cast<double>(right) / static_cast<double>(asked), right, asked);
  }
}

void print_loss(const std::vector<Json>& lines) {
  double loss = 0, tokens = 0;
  for (const Json& line : lines)
    for (const Json& log_prob : line["log_probs"]) {
      loss -= log_prob.get<double>();
      ++tokens;
    }
  fmt::print("loss {:.6f} perplexity {:.4f} over {:.0f} tokens\n", loss / tokens, std::exp(loss / tokens),
             tokens);
}

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
  id["tokens"] = work.inputs.documents.tokens;
  id["starts"] = work.inputs.documents.starts;
  id["ids"] = work.prompts.ids;
  return sha256_hex(json_line(id));
}

}  // namespace

int run_score(const Arguments& arguments) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, score_options(), {"MODEL"}, values)) return 0;
  if (!values.count("out")) throw UsageError("--out is missing", "--help shows examples");
  if (values.count("texts") + values.count("ids") != 1)
    throw UsageError("expected either --texts or --ids", "--help shows examples");
  const bool choices = values.count("choices") > 0;
  if (choices && values.count("ids")) throw UsageError("--choices needs --texts");
  if (!choices && values.count("answer")) throw UsageError("--answer needs --choices");

  const ModelOptions model_options = read_model_options(values, values["MODEL"].as<std::string>());
  const ModelSpec spec = read_spec(ModelFiles::open(model_options.path), model_options.ignored);
  const FoundTokenizer tokenizer = find_tokenizer(model_options.path);
  Work work;
  if (choices) {
    work = choices_work(values, tokenizer.get());
  } else {
    work.prompts = read_prompts(prompt_options(values), tokenizer);
    work.inputs = documents_of(work.prompts);
  }
  check_ids(work.inputs, spec.vocab);
  ExtractionOptions options;
  options.tokens = TokenSelector::parse("all");
  options.context = values["context"].as<std::int64_t>();
  options.overflow = parse_overflow(values["overflow"].as<std::string>());
  options.batch_tokens = values["batch-tokens"].as<std::int64_t>();
  options.skip_empty = values.count("skip-empty") > 0;
  if (options.context < 0 || options.context > spec.context || options.batch_tokens < 1)
    throw UsageError(
        fmt::format("--context and --batch-tokens: found {} and {}, expected 0 to {} and at least 1",
                    options.context, options.batch_tokens, spec.context));
  if (choices && options.overflow != Overflow::error)
    throw UsageError("--choices: a question cannot be cut, --overflow must be error");
  EditFile edits;
  if (values.count("edits")) edits = read_edits(values["edits"].as<std::string>(), spec);

  const auto backend = make_backend(values);
  const Model model = Model::load(model_options.path, load_options(model_options, true), *backend);
  const RunIdentity run = run_identity(model_options, *backend, model);
  ResumableLines lines(values["out"].as<std::string>(), identity_of(values, run, work, edits.json));
  const ExtractionPlan plan = plan_extraction(spec, work.inputs, options);
  fmt::print(stderr, "{} on {}, {} ({})\n{} {}, {} tokens\n", model.name, backend->describe(),
             model_options.dtype, run.compute_path, work.prompts.ids.size(),
             choices ? "questions" : "documents", plan.tokens);
  std::vector<Json> rows;  // all lines, those of an earlier start too
  for (const std::string& line : lines.found()) rows.push_back(parse_json(line, "a line written before"));
  if (!rows.empty()) fmt::print(stderr, "resuming: {} lines are there\n", rows.size());
  const std::size_t first = choices ? work.first[rows.size()] : document_behind(plan, rows.size());

  ProgressLine progress;
  Ranking ranking(work, rows.size());
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
        rows.push_back(std::move(*line));
      },
      [&](const Progress& p) { progress(p); });
  progress.finish();
  lines.finish();
  choices ? print_accuracy(rows) : print_loss(rows);
  return 0;
}

}  // namespace sonde
