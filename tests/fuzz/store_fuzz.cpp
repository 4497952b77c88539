// A store in which one of the files that say what is where was replaced: open, read, verify.
#include "io/activation_store.h"

#include <algorithm>

#include "io/file_util.h"
#include "tests/fuzz/input.h"
#include "tests/io/store_fixture.h"

namespace {

using namespace sonde;

const char* const kFiles[] = {"manifest.json", "shards.jsonl", "documents.jsonl", "index.h5",
                              "shards/shard-000000.h5"};

struct GoodStore {
  fuzz::Folder folder;
  std::filesystem::path dir = folder.path() / "store";
  std::string bytes[std::size(kFiles)];

  GoodStore() {
    test::Recording(DType::f32, 3).write(dir, 16);
    for (std::size_t i = 0; i < std::size(kFiles); ++i) bytes[i] = read_file(dir / kFiles[i]);
  }
};

void read_all(const std::filesystem::path& dir) {
  const auto store = StoreReader::open(dir, Incomplete::accept);
  store->row_document();
  for (std::size_t site = 0; site < store->sites().size(); ++site) {
    if (store->rows() > 0) {
      std::vector<float> row(static_cast<std::size_t>(store->sites()[site].width()));
      for (const std::int64_t first : {std::int64_t{0}, store->rows() - 1})
        store->read(site, first, 1, row.data());
    }
    if (store->complete()) store->statistics(site);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const GoodStore store;
  const fuzz::Input input(data, size, std::size(kFiles));
  const std::string file = std::string("store/") + kFiles[input.choice];
  store.folder.write(file, input.bytes);
  fuzz::refuse_or_read([&] { read_all(store.dir); });
  fuzz::refuse_or_read([&] { verify_store(store.dir); });
  store.folder.write(file, store.bytes[input.choice]);
  return 0;
}
