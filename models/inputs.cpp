#include "models/inputs.h"

#include <algorithm>
#include <exception>

#include "io/hash.h"
#include "io/json.h"
#include "runtime/error.h"

namespace sonde {
namespace {

std::string fingerprint_of(const Inputs& inputs) {
  Sha256 hash;
  for (const std::string& id : inputs.documents.ids) {
    hash.update(id);
    hash.update(std::string_view("\0", 1));
  }
  hash.update(std::as_bytes(std::span(inputs.documents.starts)));
  hash.update(std::as_bytes(std::span(inputs.documents.tokens)));
  for (const auto& positions : inputs.positions) {
    const auto n = static_cast<std::int64_t>(positions.size());
    hash.update(std::as_bytes(std::span(&n, 1)));
    hash.update(std::as_bytes(std::span(positions)));
  }
  return hash.finish_hex();
}

// Runs f(i) for every document in parallel; the error of the first document that failed is thrown.
template <class F>
void for_each_document(std::int64_t n, F&& f) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(n));
#pragma omp parallel for schedule(dynamic, 16)
  for (std::int64_t i = 0; i < n; ++i) {
    try {
      f(i);
    } catch (...) {
      errors[static_cast<std::size_t>(i)] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

Encoding encode(const std::string& text, std::optional<bool> bos, const Tokenizer& tokenizer) {
  Encoding e = tokenizer.encode_with_offsets(text, SpecialText::parse,
                                             bos == false ? AddSpecial::none : AddSpecial::tokenizer);
  if (bos != true) return e;
  if (tokenizer.bos() < 0) fail("--bos yes: the tokenizer has no bos token");
  // What the tokenizer added itself covers no text.
  if (!e.ids.empty() && e.ids[0] == tokenizer.bos() && e.begin[0] == 0 && e.end[0] == 0) return e;
  e.ids.insert(e.ids.begin(), tokenizer.bos());
  e.begin.insert(e.begin.begin(), 0);
  e.end.insert(e.end.begin(), 0);
  return e;
}

// Tokens that share a byte with the first place where `part` stands in `text`.
std::vector<std::int32_t> span_positions(const Encoding& e, const std::string& text, const std::string& part,
                                         bool last, const std::string& where, const std::string& column) {
  const std::size_t at = part.empty() ? std::string::npos : text.find(part);
  if (at == std::string::npos)
    fail("{}: --tokens span:{}: '{}' does not stand in the text '{}'", where, column, part,
         text.substr(0, 80));
  std::vector<std::int32_t> positions;
  for (std::size_t i = 0; i < e.ids.size(); ++i)
    if (e.begin[i] < at + part.size() && e.end[i] > at) positions.push_back(static_cast<std::int32_t>(i));
  if (positions.empty()) fail("{}: --tokens span:{}: no token covers '{}'", where, column, part);
  if (last) positions = {positions.back()};
  return positions;
}

std::vector<std::int32_t> mask_positions(const std::string& mask, std::int64_t length,
                                         const std::string& where, const std::string& column) {
  const Json json = parse_json(mask, where);
  if (!json.is_array() || static_cast<std::int64_t>(json.size()) != length)
    fail("{}: column {}: found {} of {}, expected an array of {} (one 0 or 1 per token)", where, column,
         json.type_name(), json.size(), length);
  std::vector<std::int32_t> positions;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const bool flag = json[i].is_boolean();
    if (!flag && !json[i].is_number_integer())
      fail("{}: column {}: element {} is not 0 or 1", where, column, i);
    if (flag ? json[i].get<bool>() : json[i].get<std::int64_t>() != 0)
      positions.push_back(static_cast<std::int32_t>(i));
  }
  return positions;
}

std::vector<std::string> document_ids(const Table& table, const std::string& column) {
  if (table.has(column)) return table.column(column);
  std::vector<std::string> ids;
  for (std::int64_t i = 0; i < table.rows(); ++i) ids.push_back(std::to_string(i));
  return ids;
}

// Flattens one vector of tokens per document.
void pack(TokenIds& documents, const std::vector<std::vector<std::int32_t>>& tokens) {
  documents.starts.assign(1, 0);
  for (const auto& t : tokens) {
    documents.tokens.insert(documents.tokens.end(), t.begin(), t.end());
    documents.starts.push_back(static_cast<std::int64_t>(documents.tokens.size()));
  }
}

}  // namespace

std::vector<std::int32_t> Inputs::select(const TokenSelector& selector, std::int64_t document,
                                         std::int64_t length) const {
  const std::string& id = documents.ids[static_cast<std::size_t>(document)];
  if (positions.empty()) return selector.select(length, id);
  std::vector<std::int32_t> chosen;
  for (std::int32_t p : positions[static_cast<std::size_t>(document)])
    if (p < length) chosen.push_back(p);
  if (chosen.empty() && selector.kind() == TokenSelector::Kind::span)
    fail_hint("raise --context, or leave the document out",
              "document {}: the tokens of --tokens {} lie behind its first {} tokens", id, selector.text(),
              length);
  return chosen;
}

Inputs text_inputs(const TextOptions& options, const Tokenizer& tokenizer, const TokenSelector& selector) {
  const Table table = read_table(options.files);
  Inputs inputs;
  inputs.documents.ids = document_ids(table, options.id_column);
  const auto rows = static_cast<std::size_t>(table.rows());
  const bool spans = selector.kind() == TokenSelector::Kind::span,
             masks = selector.kind() == TokenSelector::Kind::mask;
  const bool messages =
      options.chat && options.pattern.empty() && options.column == "text" && table.has("messages");
  const std::vector<std::string>* column =
      options.pattern.empty() ? &table.column(messages ? "messages" : options.column) : nullptr;
  const std::vector<std::string>* chosen = spans || masks ? &table.column(selector.column()) : nullptr;

  std::vector<std::vector<std::int32_t>> tokens(rows);
  if (chosen) inputs.positions.resize(rows);
  for_each_document(table.rows(), [&](std::int64_t row) {
    const auto i = static_cast<std::size_t>(row);
    std::string text = column ? (*column)[i] : fill_template(options.pattern, table, row);
    if (options.chat) text = options.chat(text, messages, table.where(row));
    Encoding e = encode(text, options.bos, tokenizer);
    if (spans)
      inputs.positions[i] =
          span_positions(e, text, (*chosen)[i], selector.span_last(), table.where(row), selector.column());
    if (masks)
      inputs.positions[i] = mask_positions((*chosen)[i], static_cast<std::int64_t>(e.ids.size()),
                                           table.where(row), selector.column());
    tokens[i] = std::move(e.ids);
  });
  pack(inputs.documents, tokens);
  inputs.fingerprint = fingerprint_of(inputs);
  return inputs;
}

Inputs text_inputs(const std::vector<std::string>& texts, const std::vector<std::string>& ids,
                   std::optional<bool> bos, const Tokenizer& tokenizer) {
  Inputs inputs;
  inputs.documents.ids = ids;
  std::vector<std::vector<std::int32_t>> tokens(texts.size());
  for_each_document(static_cast<std::int64_t>(texts.size()), [&](std::int64_t i) {
    tokens[static_cast<std::size_t>(i)] = encode(texts[static_cast<std::size_t>(i)], bos, tokenizer).ids;
  });
  pack(inputs.documents, tokens);
  inputs.fingerprint = fingerprint_of(inputs);
  return inputs;
}

Inputs id_inputs(const std::vector<std::string>& files, const TokenSelector& selector, std::int64_t vocab) {
  if (selector.kind() == TokenSelector::Kind::span)
    throw UsageError("--tokens span: needs --texts: token ids have no characters");
  Inputs inputs;
  inputs.documents = read_token_ids(files);
  if (selector.kind() == TokenSelector::Kind::mask) {
    const Table table = read_table(files);
    const auto& masks = table.column(selector.column());
    for (std::int64_t i = 0; i < inputs.size(); ++i)
      inputs.positions.push_back(mask_positions(masks[static_cast<std::size_t>(i)], inputs.length(i),
                                                table.where(i), selector.column()));
  }
  inputs.fingerprint = fingerprint_of(inputs);
  check_ids(inputs, vocab);
  return inputs;
}

Inputs id_inputs(std::vector<std::string> ids, const std::vector<std::vector<std::int32_t>>& tokens) {
  Inputs inputs;
  inputs.documents.ids = std::move(ids);
  pack(inputs.documents, tokens);
  inputs.fingerprint = fingerprint_of(inputs);
  return inputs;
}

void check_ids(const Inputs& inputs, std::int64_t vocab) {
  for (std::int64_t d = 0; d < inputs.size(); ++d)
    for (std::int64_t i = inputs.documents.starts[static_cast<std::size_t>(d)];
         i < inputs.documents.starts[static_cast<std::size_t>(d) + 1]; ++i) {
      const std::int32_t id = inputs.documents.tokens[static_cast<std::size_t>(i)];
      if (id < 0 || id >= vocab)
        fail_hint("were these ids made with another model's tokenizer?",
                  "document {}: token id {}, expected 0 to {}",
                  inputs.documents.ids[static_cast<std::size_t>(d)], id, vocab - 1);
    }
}

}  // namespace sonde
