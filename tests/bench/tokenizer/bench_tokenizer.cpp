// bench_tokenizer MODEL FILE.jsonl RUNS: one thread, one call a document; prints CPU seconds and a hash of
// all ids.
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "io/hash.h"
#include "io/table.h"
#include "io/tokenizer/tokenizer.h"
#include "runtime/error.h"

namespace {

double cpu_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) try {
  using namespace sonde;
  if (argc != 4) return fmt::print(stderr, "usage: bench_tokenizer MODEL FILE.jsonl RUNS\n"), 2;
  const auto tokenizer = load_tokenizer(argv[1]);
  const std::string file = argv[2];
  const Table table = read_table({&file, 1});
  const std::vector<std::string>& texts = table.column("text");

  std::vector<double> seconds;
  std::size_t bytes = 0;
  std::vector<std::int32_t> ids, all;
  for (int run = 0; run < std::stoi(argv[3]); ++run) {
    std::size_t tokens = 0;
    const double start = cpu_seconds();
    for (const std::string& text : texts) {
      tokenizer->encode(text, SpecialText::parse, AddSpecial::none, ids);
      tokens += ids.size();
    }
    seconds.push_back(cpu_seconds() - start);
  }
  for (const std::string& text : texts) {
    bytes += text.size();
    tokenizer->encode(text, SpecialText::parse, AddSpecial::none, ids);
    all.insert(all.end(), ids.begin(), ids.end());
  }
  fmt::print("{{\"bytes\":{},\"tokens\":{},\"sha256\":\"{}\",\"cpu_seconds\":[{}]}}\n", bytes, all.size(),
             sha256_hex(std::as_bytes(std::span(all))), fmt::join(seconds, ","));
  return 0;
} catch (const std::exception& error) {
  return fmt::print(stderr, "bench_tokenizer: {}\n", error.what()), 1;
}
