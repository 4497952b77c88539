// A safetensors file: header and offsets.
#include "io/safetensors.h"

#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const sonde::fuzz::Folder folder;
  const auto file = folder.write("model.safetensors", sonde::fuzz::Input(data, size).bytes);
  return sonde::fuzz::refuse_or_read([&] {
    const auto read = sonde::Safetensors::open(file);
    for (const sonde::SafetensorsTensor& tensor : read->tensors()) sonde::fuzz::touch(tensor.view);
  });
}
