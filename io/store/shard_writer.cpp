#include "io/store/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/store/files.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kLargeShard = std::int64_t{64} << 20;  // worth a choice of the write path

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

WritePath::WritePath() {
  const char* chosen = std::getenv("SONDE_STORE_IO");
  const std::string_view kind = chosen ? chosen : "auto";
  if (kind == "buffered")
    forced_ = buffered;
  else if (kind == "direct")
    forced_ = direct;
  else if (kind != "auto")
    throw UsageError(
        fmt::format("SONDE_STORE_IO: found '{}', expected auto, buffered or direct", printable(kind)));
}

WritePath::Kind WritePath::choose(std::int64_t shard_bytes) const {
  if (!direct_works_) return buffered;
  if (forced_ >= 0) return static_cast<Kind>(forced_);
  if (shard_bytes < kLargeShard || bytes_[buffered] == 0) return buffered;
  if (bytes_[direct] == 0) return direct;
  return bytes_[direct] / seconds_[direct] > bytes_[buffered] / seconds_[buffered] ? direct : buffered;
}

void WritePath::count(Kind kind, std::int64_t bytes, double seconds) {
  if (bytes < kLargeShard) return;
  // Old shards count less and less: a path that collapses loses.
  bytes_[kind] = 0.5 * bytes_[kind] + static_cast<double>(bytes);
  seconds_[kind] = 0.5 * seconds_[kind] + seconds;
}

std::string WritePath::describe() const {
  const auto speed = [this](Kind kind) {
    return seconds_[kind] > 0 ? fmt::format("{:.2f} GB/s", bytes_[kind] / seconds_[kind] / 1e9)
                              : "not measured";
  };
  return fmt::format("buffered {}, direct {}", speed(buffered), speed(direct));
}

ShardWriter::ShardWriter(std::filesystem::path dir, const StoreManifest& manifest, ShardLog log,
                         std::vector<ShardRecord> committed, std::int64_t block_bytes, std::int64_t blocks)
    : dir_(std::move(dir)),
      manifest_(manifest),
      log_(std::move(log)),
      block_bytes_(block_bytes),
      max_blocks_(blocks),
      records_(std::move(committed)) {
  thread_ = std::thread([this] { run(); });
}

ShardWriter::~ShardWriter() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;  // what is queued still goes to the disk: an error elsewhere loses no finished shard
  }
  changed_.notify_all();
  thread_.join();
  remove_temporaries();
}

void ShardWriter::rethrow() const {
  if (error_) std::rethrow_exception(error_);
}

Block ShardWriter::take() {
  const PhaseScope scope(Phase::io);
  std::unique_lock guard(mutex_);
  changed_.wait(guard, [this] { return error_ || !free_blocks_.empty() || blocks_made_ < max_blocks_; });
  rethrow();
  if (!free_blocks_.empty()) {
    Block block = std::move(free_blocks_.back());
    free_blocks_.pop_back();
    return block;
  }
  ++blocks_made_;
  guard.unlock();
  Block block{Buffer(block_bytes_ + kPage)};
  const auto address = reinterpret_cast<std::uintptr_t>(block.memory.data());
  block.data = block.memory.data() + (kPage - address % kPage) % kPage;
  return block;
}

void ShardWriter::push(Job job) {
  {
    const std::lock_guard guard(mutex_);
    rethrow();
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

void ShardWriter::begin(ShardBegin shard) { push(std::move(shard)); }
void ShardWriter::write(std::int64_t first_row, std::size_t site, std::int64_t offset, Block block) {
  push(WriteJob{first_row, site, offset, std::move(block)});
}
void ShardWriter::commit(ShardCommit commit) { push(std::move(commit)); }

void ShardWriter::drain() {
  const PhaseScope scope(Phase::io);
  std::unique_lock guard(mutex_);
  changed_.wait(guard, [this] { return error_ || (jobs_.empty() && !busy_); });
  rethrow();
}

void ShardWriter::run() {
  std::unique_lock guard(mutex_);
  while (true) {
    changed_.wait(guard, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    busy_ = true;
    guard.unlock();
    std::exception_ptr error;
    try {
      if (auto* write = std::get_if<WriteJob>(&job))
        do_write(*write);
      else if (auto* begin = std::get_if<ShardBegin>(&job))
        shards_[begin->first_row] = create(*begin, ".tmp");
      else
        do_commit(std::get<ShardCommit>(job));
    } catch (...) {
      error = std::current_exception();
    }
    guard.lock();
    busy_ = false;
    if (error) {
      error_ = error;
      jobs_.clear();
      changed_.notify_all();
      return;
    }
    if (auto* write = std::get_if<WriteJob>(&job)) {
      write->block.used = 0;
      free_blocks_.push_back(std::move(write->block));
    }
    changed_.notify_all();
  }
}

ShardWriter::OpenShard ShardWriter::create(ShardBegin begin, const char* suffix) const {
  OpenShard shard;
  shard.begin = std::move(begin);
  shard.temporary = dir_ / (shard.begin.file + suffix);
  shard.datasets = shard_datasets(manifest_, shard.begin.rows);
  std::int64_t bytes = 0;
  for (const H5Dataset& dataset : shard.datasets) {
    shard.checksums.emplace_back(static_cast<std::size_t>(checksum_blocks(dataset.bytes())), 0);
    bytes += dataset.bytes();
  }
  shard.kind = path_.choose(bytes);
  shard.offsets = h5_create(shard.temporary, shard.datasets,
                            file_attributes(manifest_,
                                            "rows of one shard: one row per selected token; shards.jsonl "
                                            "says which rows of the store these are"));
  return shard;
}

// HDF5 gave the datasets their full length: the rows that came move to a file of theirs.
void ShardWriter::shorten(OpenShard& shard, std::int64_t rows) const {
  ShardBegin begin = shard.begin;
  begin.rows = rows;
  OpenShard shorter = create(std::move(begin), ".short.tmp");
  {
    const File from(shard.temporary, O_RDONLY), to(shorter.temporary, O_WRONLY);
    std::vector<std::byte> piece(static_cast<std::size_t>(kChecksumBlock));
    for (std::size_t site = 0; site < manifest_.schema.sites.size(); ++site) {
      const std::int64_t bytes = shorter.datasets[site].bytes();
      for (std::int64_t at = 0; at < bytes; at += kChecksumBlock) {
        const std::int64_t n = std::min(kChecksumBlock, bytes - at);
        from.read_at(piece.data(), n, shard.offsets[site] + at);
        to.write_at(piece.data(), n, shorter.offsets[site] + at);
        const auto block = static_cast<std::size_t>(at / kChecksumBlock);
        shorter.checksums[site][block] = shard.checksums[site][block];  // of the bytes that came: all of them
      }
    }
  }
  ::unlink(shard.temporary.c_str());
  shorter.kind = WritePath::buffered;
  shard = std::move(shorter);
}

void ShardWriter::write_bytes(OpenShard& shard, std::size_t dataset, std::int64_t offset, const void* data,
                              std::int64_t bytes) {
  // Block sizes divide kChecksumBlock, so that bytes never straddle two checksums.
  std::uint32_t& crc = shard.checksums[dataset][static_cast<std::size_t>(offset / kChecksumBlock)];
  crc = crc32c(data, static_cast<std::size_t>(bytes), crc);

  const double start = now();
  const std::int64_t at = shard.offsets[dataset] + offset;
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  bool written = false;
  if (shard.kind == WritePath::direct && at % kPage == 0 && bytes % kPage == 0 && address % kPage == 0) {
    const int fd = ::open(shard.temporary.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) {
      written = ::pwrite(fd, data, static_cast<std::size_t>(bytes), at) == bytes;
      ::close(fd);
    }
    // The ordinary write below repeats what failed, and names the error if it fails too.
    if (!written) path_.refuse_direct(), shard.kind = WritePath::buffered;
  }
  if (!written) {
    const File file(shard.temporary, O_WRONLY);
    file.write_at(data, bytes, at);
    if (bytes >= block_bytes_)
      sync_file_range(file.fd(), at, bytes, SYNC_FILE_RANGE_WRITE);  // start now, wait later
  }
  shard.seconds += now() - start;
  shard.bytes += bytes;
  bytes_written_ += bytes;
}

void ShardWriter::do_write(WriteJob& job) {
  write_bytes(shards_.at(job.first_row), job.site, job.offset, job.block.data, job.block.used);
}

void ShardWriter::do_commit(const ShardCommit& commit) {
  OpenShard& shard = shards_.at(commit.first_row);
  if (commit.rows < shard.begin.rows) shorten(shard, commit.rows);
  const std::size_t sites = manifest_.schema.sites.size();
  const std::array<const void*, 3> metadata = {commit.document.data(), commit.position.data(),
                                               commit.token.data()};
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const std::int64_t bytes = shard.datasets[sites + i].bytes();
    for (std::int64_t at = 0; at < bytes; at += kChecksumBlock)
      write_bytes(shard, sites + i, at, static_cast<const std::byte*>(metadata[i]) + at,
                  std::min(kChecksumBlock, bytes - at));
  }

  std::deque<std::vector<std::int64_t>> counts;
  std::deque<std::vector<double>> arrays;
  std::vector<H5Values> values =
      sums_datasets(manifest_, commit.totals,
                    log_.batch_sums == BatchSums::kept ? &commit.batch_sums : nullptr, counts, arrays);
  const std::uint32_t crc = shard_crc(shard.checksums, values);
  for (std::size_t i = 0; i < shard.datasets.size(); ++i) {
    const auto blocks = static_cast<std::int64_t>(shard.checksums[i].size());
    values.push_back({{"/crc32c" + shard.datasets[i].name, DType::u32, {blocks}}, shard.checksums[i].data()});
  }
  const double start = now();
  h5_append(shard.temporary, values);
  ShardRecord record{shard.begin.shard,
                     shard.begin.file,
                     commit.first_row,
                     commit.rows,
                     0,
                     commit.batches,
                     commit.batch_rows,
                     crc,
                     log_.made_by};
  {
    const File file(shard.temporary, O_WRONLY);
    file.sync();
    record.bytes = file.size();
  }
  rename_durably(shard.temporary, dir_ / record.file);
  const File log(log_.file, O_WRONLY | O_CREAT | O_APPEND);
  log.append(to_line(record));
  log.sync();
  path_.count(shard.kind, shard.bytes, shard.seconds + now() - start);
  records_.push_back(record);
  shards_.erase(commit.first_row);
}

void ShardWriter::remove_temporaries() {
  for (const auto& [number, shard] : shards_) ::unlink(shard.temporary.c_str());
}

}  // namespace sonde
