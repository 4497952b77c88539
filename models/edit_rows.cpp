#include "models/edit_rows.h"

#include <algorithm>

#include "io/activation_store.h"
#include "runtime/error.h"

namespace sonde {
namespace {

class TensorRows : public EditRows {
 public:
  TensorRows(OwnedTensor rows, std::string where) : rows_(std::move(rows)), where_(std::move(where)) {}

  void read(Tensor out, std::int64_t document, std::span<const std::int32_t> chosen,
            std::int64_t index) const override {
    check(document, chosen);
    const Tensor rows = rows_.view;
    if (rows.width() != out.width())
      fail("{}: found rows of {}, expected {}", where_, rows.width(), out.width());
    std::copy_n(rows.row(index), rows.width(), out.f32());
  }

  void check(std::int64_t document, std::span<const std::int32_t> chosen) const override {
    if (rows_.view.rows() != static_cast<std::int64_t>(chosen.size()))
      fail_hint(
          "a tensor of one row goes to every token",
          "{}: key value: document {}: the edit chooses {} tokens and the tensor has {} rows, expected one "
          "or as many",
          where_, document, chosen.size(), rows_.view.rows());
  }

 private:
  OwnedTensor rows_;
  std::string where_;
};

std::size_t find_store_site(const StoreReader& store, const std::filesystem::path& path,
                            const std::string& site) {
  for (std::size_t i = 0; i < store.sites().size(); ++i)
    if (store.sites()[i].name == site) return i;
  std::string names;
  for (std::size_t i = 0; i < std::min<std::size_t>(8, store.sites().size()); ++i)
    names += (i ? ", " : "") + store.sites()[i].name;
  fail_hint("\"site\" beside \"store\" names another point of it",
            "key value: store {} has no site {}, found {}", path.string(), site, names);
}

class StoreRows : public EditRows {
 public:
  StoreRows(const std::filesystem::path& path, const std::string& site, std::int64_t width, RowShape shape,
            std::string where)
      : store_(StoreReader::open(path)), where_(std::move(where)) {
    site_ = find_store_site(*store_, path, site);
    const StoreSite& found = store_->sites()[site_];
    keys_ = shape == RowShape::HS ? found.row_shape.back() : 0;
    if (keys_ == 0 && found.width() != width)
      fail("key value: store {} has rows of {} at {}, expected {}", path.string(), found.width(), site,
           width);
    const auto& documents = store_->row_document();
    if (!std::ranges::is_sorted(documents))
      fail("{}: store {}: found rows whose documents do not ascend", where_, path.string());
    first_.resize(store_->documents().size() + 1);
    for (std::size_t d = 0; d < first_.size(); ++d)
      first_[d] = std::ranges::lower_bound(documents, static_cast<std::int64_t>(d)) - documents.begin();
  }

  void read(Tensor out, std::int64_t document, std::span<const std::int32_t> chosen,
            std::int64_t index) const override {
    const std::int64_t width = store_->sites()[site_].width();
    const float* values = row_of(document, chosen, index) * width + rows_of(document);
    if (keys_ == 0) {
      std::copy_n(values, width, out.f32());
      return;
    }
    const std::int64_t heads = out.dim(1), here = out.dim(2);
    if (heads * keys_ != width || keys_ < here)
      fail("{}: the store has rows of {} at this point, expected {} heads of at least {} keys", where_, width,
           heads, here);
    for (std::int64_t h = 0; h < heads; ++h) std::copy_n(values + h * keys_, here, out.f32() + h * here);
  }

  void check(std::int64_t document, std::span<const std::int32_t> chosen) const override {
    if (!chosen.empty()) row_of(document, chosen, 0);
  }

 private:
  // Positions of the document's rows in the store, ascending.
  std::span<const std::int32_t> positions_of(std::int64_t document) const {
    const auto d = static_cast<std::size_t>(document);
    if (d + 1 >= first_.size())
      fail_hint("record the same documents in the same order", "{}: document {}: the store has {} documents",
                where_, document, first_.size() - 1);
    return std::span(store_->row_position())
        .subspan(static_cast<std::size_t>(first_[d]), static_cast<std::size_t>(first_[d + 1] - first_[d]));
  }

  // Of the document's rows, the one for the token chosen[index].
  std::int64_t row_of(std::int64_t document, std::span<const std::int32_t> chosen, std::int64_t index) const {
    const auto positions = positions_of(document);
    if (document != checked_document_ || !std::ranges::equal(chosen, checked_)) {
      if (!std::ranges::includes(positions, chosen) && positions.size() != chosen.size())
        fail_hint(
            "record the same tokens there, or as many of each document",
            "{}: document {}: the edit chooses {} tokens, of which the store has not all; it has {} rows",
            where_, document, chosen.size(), positions.size());
      by_position_ = std::ranges::includes(positions, chosen);
      checked_document_ = document;
      checked_.assign(chosen.begin(), chosen.end());
    }
    if (!by_position_) return index;
    return std::ranges::lower_bound(positions, chosen[static_cast<std::size_t>(index)]) - positions.begin();
  }

  // The document's rows, read once while one document's tokens come after another.
  const float* rows_of(std::int64_t document) const {
    if (document != read_document_) {
      const auto n = static_cast<std::int64_t>(positions_of(document).size());
      rows_.resize(static_cast<std::size_t>(n * store_->sites()[site_].width()));
      store_->read(site_, first_[static_cast<std::size_t>(document)], n, rows_.data());
      read_document_ = document;
    }
    return rows_.data();
  }

  std::unique_ptr<StoreReader> store_;
  std::size_t site_ = 0;
  std::int64_t keys_ = 0;            // of scores and patterns: keys that a row of the store has
  std::vector<std::int64_t> first_;  // row of each document
  std::string where_;
  // The last document asked for.
  mutable std::int64_t checked_document_ = -1, read_document_ = -1;
  mutable std::vector<std::int32_t> checked_;
  mutable bool by_position_ = false;
  mutable std::vector<float> rows_;
};

}  // namespace

std::shared_ptr<const EditRows> rows_of_tensor(OwnedTensor rows, std::string where) {
  return std::make_shared<TensorRows>(std::move(rows), std::move(where));
}

std::shared_ptr<const EditRows> rows_of_store(const std::filesystem::path& store, const std::string& site,
                                              std::int64_t width, RowShape shape, std::string where) {
  return std::make_shared<StoreRows>(store, site, width, shape, std::move(where));
}

OwnedTensor mean_of_store(const std::filesystem::path& path, const std::string& site) {
  const auto store = StoreReader::open(path);
  const SiteStatistics statistics = store->statistics(find_store_site(*store, path, site));
  OwnedTensor row = make_tensor(DType::f32, {1, static_cast<std::int64_t>(statistics.mean.size())});
  for (std::size_t i = 0; i < statistics.mean.size(); ++i)
    row.view.f32()[i] = static_cast<float>(statistics.mean[i]);
  return row;
}

}  // namespace sonde
