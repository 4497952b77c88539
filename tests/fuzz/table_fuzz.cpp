// Tables of every kind, packed or not; what is read becomes a template's text, labels and token ids.
#include "io/table.h"

#include "models/probe/labels.h"
#include "models/probe/split.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const fuzz::Folder folder;
  const char* const names[] = {"t.csv",    "t.tsv",      "t.jsonl",   "t.txt",       "t.csv.gz",
                               "t.tsv.gz", "t.jsonl.gz", "t.csv.zst", "t.jsonl.zst", "t.txt.zst"};
  const fuzz::Input input(data, size, std::size(names));
  const std::vector<std::string> files = {folder.write(names[input.choice], input.bytes).string()};
  if (input.choice == 2 || input.choice == 6) fuzz::refuse_or_read([&] { read_token_ids(files); });
  return fuzz::refuse_or_read([&] {
    const Table table = read_table(files);
    table.where(table.rows() - 1);
    for (const std::string& name : table.names) {
      fuzz::refuse_or_read([&] { encode_labels(table.column(name), name); });
      fuzz::refuse_or_read([&] { numeric_labels(table.column(name), name); });
      fuzz::refuse_or_read([&] { fill_template("{" + name + "} {{}}", table, 0); });
    }
  });
}
