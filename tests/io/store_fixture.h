// A small store whose every value follows from its seed, written batch by batch as a forward would.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "io/activation_store.h"
#include "runtime/error.h"

namespace sonde::test {

// A folder of its own, removed at the end.
struct ScratchFolder {
  std::filesystem::path path;
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "sonde-store-XXXXXX").string();
    if (!mkdtemp(name.data())) throw Error("no scratch folder");
    path = name;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path); }
  std::filesystem::path operator/(const std::string& name) const { return path / name; }
};

// Documents of 1 to 12 tokens packed into batches of up to 16 rows; sites of every row shape the store knows
// apart.
struct Recording {
  StoreSchema schema;
  std::vector<StoreDocument> documents;
  std::vector<std::int64_t> document;         // [rows]
  std::vector<std::int32_t> position, token;  // [rows]
  std::vector<std::int64_t> batch_starts;     // [n_batches + 1]
  std::vector<std::vector<float>> values;     // [sites][rows * width], padding included
  static constexpr std::int64_t kHeads = 3, kLongest = 12;

  explicit Recording(DType dtype, std::int64_t n_documents = 20, std::int64_t width = 5, unsigned seed = 42) {
    schema.dtype = dtype;
    const auto add_site = [&](Hook hook, int layer, std::vector<std::int64_t> shape) {
      schema.sites.push_back({{hook, layer}, name(Site{hook, layer}), std::move(shape)});
    };
    add_site(Hook::embed, 0, {width});
    add_site(Hook::ln1_scale, 0, {1});
    add_site(Hook::q, 0, {kHeads, 4});
    add_site(Hook::attn_scores, 0, {kHeads, kLongest});
    add_site(Hook::pattern, 1, {kHeads, kLongest});
    add_site(Hook::resid_post, 1, {width});
    add_site(Hook::logits, 0, {257});
    schema.identity = {{"model", {{"name", "toy"}, {"sha256", "00"}}},
                       {"options", {{"tokens", "all"}, {"context", 12}}}};

    std::mt19937 random(seed);
    batch_starts = {0};
    for (std::int64_t d = 0; d < n_documents; ++d) {
      const auto length =
          static_cast<std::int32_t>(d == 0 ? kLongest : 1 + static_cast<std::int64_t>(random() % kLongest));
      documents.push_back({"doc \"" + std::to_string(d) + "\" ü", length});
      if (static_cast<std::int64_t>(document.size()) + length - batch_starts.back() > 16)
        batch_starts.push_back(static_cast<std::int64_t>(document.size()));
      for (std::int32_t t = 0; t < length; ++t) {
        document.push_back(d);
        position.push_back(t);
        token.push_back(static_cast<std::int32_t>(random() % 50000));
      }
    }
    batch_starts.push_back(static_cast<std::int64_t>(document.size()));
    schema.total_rows = static_cast<std::int64_t>(document.size());
    schema.n_batches = static_cast<std::int64_t>(batch_starts.size()) - 1;
    std::normal_distribution<float> normal;
    for (const StoreSite& site : schema.sites) {
      std::vector<float>& all = values.emplace_back();
      for (std::int64_t i = 0; i < schema.total_rows * site.width(); ++i) {
        const auto row = static_cast<std::size_t>(i / site.width());
        const bool masked = site.row_shape.back() == kLongest && i % kLongest > position[row];
        if (masked)
          all.push_back(site.site.hook == Hook::attn_scores ? -INFINITY : 0.0f);
        else
          all.push_back(normal(random));
      }
    }
  }

  std::int64_t rows() const { return schema.total_rows; }
  float& at(std::size_t site, std::int64_t row, std::int64_t column) {
    return values[site][static_cast<std::size_t>(row * schema.sites[site].width() + column)];
  }

  // What part `index` of `of` (from 1) records: a fixed share of the batches. The rest keeps its numbers.
  StoreSchema part_schema(std::int64_t index, std::int64_t of, std::int64_t* first_batch) const {
    const std::int64_t begin = schema.n_batches * (index - 1) / of, end = schema.n_batches * index / of;
    StoreSchema part = schema;
    part.n_batches = end - begin;
    part.total_rows =
        batch_starts[static_cast<std::size_t>(end)] - batch_starts[static_cast<std::size_t>(begin)];
    part.identity["part"] = {{"index", index}, {"of", of}};
    *first_batch = begin;
    return part;
  }

  // Records batches from `writer`'s first on; `batch_offset` is where the part starts in the whole plan.
  void feed(
      StoreWriter& writer, std::int64_t n_batches, std::int64_t batch_offset = 0,
      const std::function<void()>& between = [] {}) const {
    const std::int64_t row_offset = batch_starts[static_cast<std::size_t>(batch_offset)];
    for (std::int64_t b = writer.first_batch(); b < n_batches; ++b) {
      const auto plan = static_cast<std::size_t>(batch_offset + b);
      const std::int64_t first = batch_starts[plan], n = batch_starts[plan + 1] - first;
      const auto piece = [&](const auto& all) {
        return std::span(all).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
      };
      writer.begin_batch(b, first - row_offset, {piece(document), piece(position), piece(token)});
      for (std::size_t i = 0; i < schema.sites.size(); ++i) {
        put_site(writer, i, first, n);
        between();
      }
      writer.end_batch();
      between();
    }
  }

  void write(const std::filesystem::path& dir, std::int64_t shard_rows) const {
    StoreSchema with = schema;
    with.shard_rows = shard_rows;
    const auto writer = StoreWriter::open(dir, with, documents);
    feed(*writer, schema.n_batches);
    writer->finish();
  }

  void write_part(const std::filesystem::path& dir, std::int64_t index, std::int64_t of,
                  std::int64_t shard_rows) const {
    std::int64_t first = 0;
    StoreSchema part = part_schema(index, of, &first);
    part.shard_rows = shard_rows;
    const auto writer = StoreWriter::open(dir, part, documents);
    feed(*writer, part.n_batches, first);
    writer->finish();
  }

  // Puts a site in two calls; [H, S] rows only as wide as the longest document of the batch; some sites as
  // columns of a wider tensor.
  void put_site(CaptureSink& writer, std::size_t site, std::int64_t first, std::int64_t n) const {
    const StoreSite& shape = schema.sites[site];
    const float* from = values[site].data() + first * shape.width();
    std::vector<float> rows;
    if (info(shape.site.hook).shape == RowShape::HS) {
      std::int64_t keys = 0;
      for (std::int64_t r = first; r < first + n; ++r)
        keys =
            std::max(keys, documents[static_cast<std::size_t>(document[static_cast<std::size_t>(r)])].tokens);
      for (std::int64_t i = 0; i < n * kHeads; ++i)
        rows.insert(rows.end(), from + i * kLongest, from + i * kLongest + keys);
      writer.put(shape.site, Tensor(rows.data(), DType::f32, {n, kHeads, keys}), 0);
    } else if (shape.site.hook == Hook::resid_post) {
      const std::int64_t wide = shape.width() + 3;
      rows.assign(static_cast<std::size_t>(n * wide), NAN);
      for (std::int64_t r = 0; r < n; ++r)
        std::copy_n(from + r * shape.width(), shape.width(), rows.begin() + r * wide);
      writer.put(shape.site, Tensor(rows.data(), DType::f32, {n, wide}).slice_columns(0, shape.width()), 0);
    } else {
      rows.assign(from, from + n * shape.width());
      const Tensor flat(rows.data(), DType::f32, {n, shape.width()});
      const Tensor all =
          shape.row_shape.size() == 2 ? flat.reshape_row({shape.row_shape[0], shape.row_shape[1]}) : flat;
      writer.put(shape.site, all.slice_rows(0, n / 2), 0);
      writer.put(shape.site, all.slice_rows(n / 2, n - n / 2), n / 2);
    }
  }
};

inline float rounded(DType dtype, float x) {
  return dtype == DType::f32 ? x : dtype == DType::bf16 ? round_to_bf16(x) : to_float(to_f16(x));
}

// The message and hint of the Error that `action` throws; "" when it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return std::string(error.what()) + " HINT: " + error.hint();
  }
  return {};
}

}  // namespace sonde::test
