// How fast a store is written, beside raw writes of as many bytes in the same run. Usage: bench_store FOLDER
// [GB]
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "io/activation_store.h"
#include "runtime/error.h"

namespace {

using namespace sonde;

// All residuals of a SmolLM2, batches of 2,048 tokens.
constexpr std::int64_t kWidth = 576, kLayers = 30, kBatchRows = 2048;
constexpr int kRounds = 3;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Seconds for `bytes` in blocks of 4 MiB and an fsync; infinite where the file system refuses the flags.
double write_raw(const std::filesystem::path& file, std::int64_t bytes, int flags) {
  constexpr std::int64_t kBlock = std::int64_t{4} << 20;
  void* block = std::aligned_alloc(4096, kBlock);
  std::memset(block, 1, kBlock);
  const double start = now();
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0666);
  bool good = fd >= 0;
  for (std::int64_t at = 0; good && at < bytes; at += kBlock) good = pwrite(fd, block, kBlock, at) == kBlock;
  good = good && fsync(fd) == 0;
  const double seconds = now() - start;
  if (fd >= 0) close(fd);
  unlink(file.c_str());
  std::free(block);
  return good ? seconds : INFINITY;
}

StoreSchema make_schema(DType dtype, double gigabytes) {
  StoreSchema schema;
  schema.dtype = dtype;
  for (int l = 0; l < kLayers; ++l)
    schema.sites.push_back({{Hook::resid_post, l}, name(Site{Hook::resid_post, l}), {kWidth}});
  schema.total_rows = kBatchRows;
  schema.n_batches =
      std::max<std::int64_t>(1, std::llround(gigabytes * 1e9 / static_cast<double>(store_bytes(schema))));
  schema.total_rows *= schema.n_batches;
  schema.identity = {{"model", "random"}};
  return schema;
}

// Seconds from an empty folder to a complete store.
double write_store(const std::filesystem::path& dir, const StoreSchema& schema) {
  std::filesystem::remove_all(dir);
  std::vector<float> values(static_cast<std::size_t>(kBatchRows * kWidth));  // [kBatchRows, kWidth]
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i * 2654435761u % 100003u) - 5e4f;
  const std::vector<std::int64_t> document(kBatchRows, 0);
  const std::vector<std::int32_t> position(kBatchRows, 1), token(kBatchRows, 2);
  const StoreDocument one{"a", kBatchRows};
  const double start = now();
  const auto writer = StoreWriter::open(dir, schema, {&one, 1});
  for (std::int64_t b = 0; b < schema.n_batches; ++b) {
    writer->begin_batch(b, b * kBatchRows, {document, position, token});
    for (const StoreSite& site : schema.sites)
      writer->put(site.site, Tensor(values.data(), DType::f32, {kBatchRows, kWidth}), 0);
    writer->end_batch();
  }
  writer->finish();
  return now() - start;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void run(const std::filesystem::path& folder, DType dtype, double gigabytes) {
  const StoreSchema schema = make_schema(dtype, gigabytes);
  const double gb = static_cast<double>(store_bytes(schema)) / 1e9;
  std::vector<double> buffered, direct, store, cpu, verify;
  for (int round = 0; round < kRounds; ++round) {
    buffered.push_back(write_raw(folder / "raw", store_bytes(schema), 0));
    direct.push_back(write_raw(folder / "raw", store_bytes(schema), O_DIRECT));
    const double cpu_before = cpu_seconds();
    store.push_back(write_store(folder / "store", schema));
    cpu.push_back(cpu_seconds() - cpu_before);
    const double start = now();
    verify_store(folder / "store");
    verify.push_back(now() - start);
  }
  std::filesystem::remove_all(folder / "store");
  const double raw = std::min(median(buffered), median(direct));
  fmt::print(
      "{:<4} {:.2f} GB: raw buffered {:.2f} GB/s, O_DIRECT {:.2f}; store {:.2f} = {:.0f} % of the better, "
      "with "
      "{:.2f} CPU seconds a GB; verify {:.2f} GB/s\n",
      name(dtype), gb, gb / median(buffered), gb / median(direct), gb / median(store),
      100 * raw / median(store), median(cpu) / gb, gb / median(verify));
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return fmt::print(stderr, "usage: bench_store FOLDER [GB]\n"), 2;
  try {
    for (const DType dtype : {DType::f32, DType::bf16})
      run(arguments[1], dtype, count > 2 ? std::atof(arguments[2]) : 2.0);
  } catch (const Error& error) {
    return fmt::print(stderr, "{}. HINT: {}\n", error.what(), error.hint()), 1;
  }
}
