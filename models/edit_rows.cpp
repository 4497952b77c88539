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
    const Tensor rows = rows_.view;
    if (rows.rows() != static_cast<std::int64_t>(chosen.size()))
      fail(
          "{}: document {}: the edit chooses {} tokens and its value has {} rows, expected one row or as "
          "many",
          where_, document, chosen.size(), rows.rows());
    if (rows.width() != out.width())
      fail("{}: found rows of {}, expected {}", where_, rows.width(), out.width());
    std::copy_n(rows.row(index), rows.width(), out.f32());
  }

 private:
  OwnedTensor rows_;
  std::string where_;
};

std::size_t find_store_site(const StoreReader& store, const std::filesystem::path& path,
                            const std::string& site, const std::string& where) {
  for (std::size_t i = 0; i < store.sites().size(); ++i)
    if (store.sites()[i].name == site) return i;
  std::string names;
  for (std::size_t i = 0; i < std::min<std::size_t>(8, store.sites().size()); ++i)
    names += (i ? ", " : "") + store.sites()[i].name;
  fail("{}: store {} has no site {}, found {}", where, path.string(), site, names);
}

class StoreRows : public EditRows {
 public:
  StoreRows(const std::filesystem::path& path, const std::string& site, std::int64_t width, RowShape shape,
            std::string where)
      : store_(StoreReader::open(path)), where_(std::move(where)) {
    site_ = find_store_site(*store_, path, site, where_);
    const StoreSite& found = store_->sites()[site_];
    keys_ = shape == RowShape::HS ? found.row_shape.back() : 0;
    if (keys_ == 0 && found.width() != width)
      fail("{}: store {} has rows of {} at {}, expected {}", where_, path.string(), found.width(), site,
           width);
    const auto& documents = store_->row_document();
    first_.resize(store_->documents().size() + 1);
    for (std::size_t d = 0; d < first_.size(); ++d)
      first_[d] = std::ranges::lower_bound(documents, static_cast<std::int64_t>(d)) - documents.begin();
  }

  void read(Tensor out, std::int64_t document, std::span<const std::int32_t> chosen,
            std::int64_t index) const override {
    const std::int64_t row = row_of(document, chosen, index);
    const std::int64_t width = store_->sites()[site_].width();
    std::vector<float> values(static_cast<std::size_t>(width));
    store_->read(site_, row, 1, values.data());
    if (keys_ == 0) {
      std::ranges::copy(values, out.f32());
      return;
    }
    const std::int64_t heads = out.dim(1), here = out.dim(2);
    if (heads * keys_ != width || keys_ < here)
      fail("{}: the store has rows of {} at this point, expected {} heads of at least {} keys", where_, width,
           heads, here);
    for (std::int64_t h = 0; h < heads; ++h)
      std::copy_n(values.begin() + h * keys_, here, out.f32() + h * here);
  }

 private:
  std::int64_t row_of(std::int64_t document, std::span<const std::int32_t> chosen, std::int64_t index) const {
    const auto d = static_cast<std::size_t>(document);
    if (d + 1 >= first_.size())
      fail("{}: document {} of the run: the store has {} documents", where_, document, first_.size() - 1);
    const auto positions = std::span(store_->row_position())
                               .subspan(static_cast<std::size_t>(first_[d]),
                                        static_cast<std::size_t>(first_[d + 1] - first_[d]));
    const auto at = std::ranges::lower_bound(positions, chosen[static_cast<std::size_t>(index)]);
    if (std::ranges::includes(positions, chosen)) return first_[d] + (at - positions.begin());
    if (positions.size() == chosen.size()) return first_[d] + index;
    fail_hint("record the same tokens there, or as many of each document",
              "{}: document {}: the edit chooses {} tokens, of which the store has not all; it has {} rows",
              where_, document, chosen.size(), positions.size());
  }

  std::unique_ptr<StoreReader> store_;
  std::size_t site_ = 0;
  std::int64_t keys_ = 0;            // of scores and patterns: keys that a row of the store has
  std::vector<std::int64_t> first_;  // row of each document
  std::string where_;
};

}  // namespace

std::shared_ptr<const EditRows> rows_of_tensor(OwnedTensor rows, std::string where) {
  return std::make_shared<TensorRows>(std::move(rows), std::move(where));
}

std::shared_ptr<const EditRows> rows_of_store(const std::filesystem::path& store, const std::string& site,
                                              std::int64_t width, RowShape shape, std::string where) {
  return std::make_shared<StoreRows>(store, site, width, shape, std::move(where));
}

OwnedTensor mean_of_store(const std::filesystem::path& path, const std::string& site,
                          const std::string& where) {
  const auto store = StoreReader::open(path);
  const SiteStatistics statistics = store->statistics(find_store_site(*store, path, site, where));
  OwnedTensor row = make_tensor(DType::f32, {1, static_cast<std::int64_t>(statistics.mean.size())});
  for (std::size_t i = 0; i < statistics.mean.size(); ++i)
    row.view.f32()[i] = static_cast<float>(statistics.mean[i]);
  return row;
}

}  // namespace sonde
