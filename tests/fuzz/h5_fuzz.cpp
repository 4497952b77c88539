// The structure of a store's HDF5 files.
#include "io/h5_structure.h"

#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const fuzz::Folder folder;
  const auto file = folder.write("x.h5", fuzz::Input(data, size).bytes);
  return fuzz::refuse_or_read([&] {
    const h5::Structure structure(MappedFile::open(file));
    for (const auto& [name, dataset] : structure.datasets()) {
      structure.mappings(dataset);
      const H5Place& place = dataset.place;
      if (place.offset >= 0) fuzz::touch(structure.bytes(place), place.dataset.bytes());
    }
  });
}
