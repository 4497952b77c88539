// A file of edits, beside a file of tensors it may name.
#include "models/edit_file.h"

#include "tests/fuzz/input.h"
#include "tests/models/model_folder.h"
#include "tests/models/random_specs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const fuzz::Folder folder;
  static const ModelSpec spec = test::llama_like();
  static const bool written = [] {
    const auto d = spec.d_model;
    const std::vector<float> values(static_cast<std::size_t>(3 * d), 0.5f);
    test::write_safetensors(folder.path() / "v", {{"v", test::stored_f32({3, d}, values)}});
    return true;
  }();
  static_cast<void>(written);
  const auto file = folder.write("edits.json", fuzz::Input(data, size).bytes);
  return fuzz::refuse_or_read([&] { read_edits(file, spec); });
}
