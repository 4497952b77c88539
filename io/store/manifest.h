// manifest.json, shards.jsonl and documents.jsonl: what a store is, and which of its shards are committed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/activation_store.h"
#include "io/h5.h"

namespace sonde {

inline constexpr const char* kStoreFormat = "sonde activation store";
inline constexpr std::int64_t kStoreVersion = 1;
inline constexpr std::int64_t kChecksumBlock = std::int64_t{4} << 20;  // bytes of a dataset under one crc32c

// Names inside a store.
std::filesystem::path manifest_path(const std::filesystem::path& dir);
std::filesystem::path shard_log_path(const std::filesystem::path& dir);
std::filesystem::path documents_path(const std::filesystem::path& dir);
std::filesystem::path index_path(const std::filesystem::path& dir);
std::string shard_file(std::int64_t shard);           // "shards/shard-000003.h5", relative to the store
std::string shard_file_from(std::int64_t first_row);  // "shards/rows-000000004711.h5": of several ranks

struct StoreManifest {
  StoreSchema schema;  // shard_rows as used
  std::int64_t documents = 0;
  std::string documents_sha256;
  bool complete = false;
  std::int64_t shards = 0, bytes = 0;  // of a complete store
  std::uint32_t statistics_crc = 0;    // of a complete store
  Json json;                           // as read

  bool is_part()
      const;  // one of several: keeps the sums of each batch, so that a merge can add them in order
};
Json to_json(const StoreManifest& manifest);
StoreManifest read_manifest(const std::filesystem::path& dir);  // every key checked
void write_manifest(const std::filesystem::path& dir, const StoreManifest& manifest);

// A line of shards.jsonl.
struct ShardRecord {
  std::int64_t shard = 0;
  std::string file;  // relative to the store
  std::int64_t first_row = 0, rows = 0;
  std::int64_t bytes = 0;       // of the file
  std::int64_t batches = 0;     // that end in this shard or before it
  std::int64_t batch_rows = 0;  // rows of those batches: where the next batch starts
  std::uint32_t crc = 0;        // crc32c of all block checksums, datasets in the order of shard_datasets()
  Json made_by;                 // of several ranks: {"rank": r, "data": D, "tensor": T, "pipeline": P}
};
Json to_json(const ShardRecord& record);
std::string to_line(const ShardRecord& record);  // with a newline
ShardRecord parse_record(std::string_view line, const std::string& source);
// The committed shards in order. A torn last line (no newline) is ignored; *intact_bytes is where it starts.
std::vector<ShardRecord> read_shard_log(const std::filesystem::path& dir,
                                        std::int64_t* intact_bytes = nullptr);

// While several ranks write, each notes its shards in a log of its own, shards.rank-00003.jsonl; the last act
// is to put all of them into shards.jsonl.
std::filesystem::path rank_log_path(const std::filesystem::path& dir, int rank);
std::vector<std::filesystem::path> rank_logs(const std::filesystem::path& dir);  // those there are
// The intact lines of such a log; a torn last line is cut off.
std::vector<ShardRecord> read_rank_log(const std::filesystem::path& log);

// Each shard must be there with its size; rows and order must agree with the manifest.
void check_shards(const std::filesystem::path& dir, const StoreManifest& manifest,
                  std::span<const ShardRecord> records);
void check_files(const std::filesystem::path& dir, const StoreManifest& manifest,
                 std::span<const ShardRecord> records);

std::string documents_text(std::span<const StoreDocument> documents);
std::vector<StoreDocument> read_documents(const std::filesystem::path& dir, const StoreManifest& manifest);

// The first key at which two values differ, as "options.tokens: found "last", expected "all""; empty when
// equal.
std::string first_difference(const Json& found, const Json& expected);

// Statistics have one column for attention scores and patterns, else one per column of a row.
std::int64_t statistics_width(const StoreSite& site);
bool is_pooled(const StoreSite& site);

// Datasets of a shard whose bytes the writer writes itself: the sites, then document, position, token.
std::vector<H5Dataset> shard_datasets(const StoreManifest& manifest, std::int64_t rows);
// What a stranger with h5py should see on a file, and on a site's dataset.
std::vector<H5Attribute> file_attributes(const StoreManifest& manifest, std::string about);
std::vector<H5Attribute> site_attributes(const StoreManifest& manifest, const StoreSite& site);
std::int64_t checksum_blocks(std::int64_t bytes);

}  // namespace sonde
