// Runs documents through a model and hands back what was captured, document by document.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/hooks.h"
#include "models/model.h"
#include "models/token_selector.h"
#include "models/transformer.h"

namespace sonde::test {

using Ids = std::vector<std::int32_t>;

// One site of one document: rows of the selected tokens. Scores and patterns [H, S] keep S keys, S the
// document's tokens.
struct Captured {
  std::vector<std::int64_t> row_shape;
  std::int64_t rows = 0;
  std::vector<float> values;  // [rows, row_shape...]
};
using Activations = std::map<std::string, Captured>;  // by site name

// Keeps a copy of every put, split into documents by the batch's selected tokens.
class CollectingSink : public CaptureSink {
 public:
  // Document of each selected token, and how many tokens each document has.
  CollectingSink(std::vector<std::size_t> document_of_row, std::vector<std::int64_t> lengths)
      : document_of_row_(std::move(document_of_row)),
        lengths_(std::move(lengths)),
        documents(lengths_.size()) {}

  void put(Site site, Tensor rows, std::int64_t row0) override {
    ASSERT_TRUE(rows.contiguous()) << name(site);
    const bool keys = info(site.hook).shape == RowShape::HS;
    for (std::int64_t i = 0; i < rows.rows(); ++i) {
      ASSERT_LT(row0 + i, static_cast<std::int64_t>(document_of_row_.size())) << name(site);
      const std::size_t document = document_of_row_[static_cast<std::size_t>(row0 + i)];
      Captured& c = documents[document][name(site)];
      if (c.rows == 0)
        for (int d = 1; d < rows.rank; ++d) c.row_shape.push_back(rows.dim(d));
      if (keys) {
        ASSERT_GE(rows.dim(2), lengths_[document]) << name(site);
        c.row_shape.back() = lengths_[document];
        for (std::int64_t h = 0; h < rows.dim(1); ++h) {
          const float* first = rows.row(i) + h * rows.dim(2);
          c.values.insert(c.values.end(), first, first + lengths_[document]);
        }
      } else {
        c.values.insert(c.values.end(), rows.row(i), rows.row(i) + rows.width());
      }
      ++c.rows;
    }
    ++puts[name(site)];
  }

 private:
  std::vector<std::size_t> document_of_row_;
  std::vector<std::int64_t> lengths_;

 public:
  std::vector<Activations> documents;
  std::map<std::string, int> puts;
};

struct RunOptions {
  std::vector<Site> sites;  // empty: every site of the model
  std::string tokens = "all";
  std::function<void(Hooks&, const HookSizes&)> edits = {};
};

// All documents in one batch.
inline std::vector<Activations> run_packed(const Model& model, Backend& backend,
                                           const std::vector<Ids>& documents,
                                           const RunOptions& options = {}) {
  Ids ids, positions, starts{0}, selected;
  std::vector<std::size_t> document_of_row;
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto length = static_cast<std::int64_t>(documents[i].size());
    for (std::int32_t p : TokenSelector::parse(options.tokens).select(length, std::to_string(i))) {
      selected.push_back(starts.back() + p);
      document_of_row.push_back(i);
    }
    for (std::int64_t p = 0; p < length; ++p) positions.push_back(static_cast<std::int32_t>(p));
    ids.insert(ids.end(), documents[i].begin(), documents[i].end());
    starts.push_back(static_cast<std::int32_t>(ids.size()));
    lengths.push_back(length);
  }
  const std::vector<Site> sites = options.sites.empty() ? model.spec.sites() : options.sites;
  CollectingSink sink(document_of_row, lengths);
  Hooks hooks(backend, model.spec.n_layers);
  if (options.edits) options.edits(hooks, model.spec.hook_sizes());
  hooks.capture(sites, sink);
  Transformer transformer(model, backend, static_cast<std::int64_t>(ids.size()));
  transformer.forward({ids, positions, Documents{starts}, selected}, hooks);
  return std::move(sink.documents);
}

inline std::vector<Activations> run_alone(const Model& model, Backend& backend,
                                          const std::vector<Ids>& documents, const RunOptions& options = {}) {
  std::vector<Activations> results;
  for (const Ids& document : documents) results.push_back(run_packed(model, backend, {document}, options)[0]);
  return results;
}

inline void expect_same_bits(const Captured& a, const Captured& b, const std::string& what) {
  ASSERT_EQ(a.row_shape, b.row_shape) << what;
  ASSERT_EQ(a.values.size(), b.values.size()) << what;
  if (a.values.empty()) return;
  EXPECT_EQ(std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)), 0) << what;
}

inline void expect_same_bits(const std::vector<Activations>& a, const std::vector<Activations>& b,
                             const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].size(), b[i].size()) << what << ", document " << i;
    for (const auto& [site, captured] : a[i]) {
      ASSERT_TRUE(b[i].count(site)) << what << ", " << site;
      expect_same_bits(captured, b[i].at(site), what + ", document " + std::to_string(i) + ", " + site);
    }
  }
}

// [T, H, S] as we write scores and patterns, from [H, T, T] as references do.
template <class T>
std::vector<T> rows_first(const std::vector<T>& values, std::int64_t heads, std::int64_t tokens) {
  std::vector<T> result;
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto first = values.begin() + (h * tokens + t) * tokens;
      result.insert(result.end(), first, first + tokens);
    }
  return result;
}

// Relative Frobenius error over the finite entries of `expected`; infinite where an entry is not finite on
// one side only, or of another sign.
template <class T>
double relative_error(const std::vector<float>& found, const std::vector<T>& expected) {
  if (found.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double f = found[i], e = expected[i];
    if (!std::isfinite(f) || !std::isfinite(e)) {
      if (f == e) continue;
      return std::numeric_limits<double>::infinity();
    }
    difference += (f - e) * (f - e);
    size += e * e;
  }
  return size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
}

}  // namespace sonde::test
