// The JSON files of a Hugging Face folder, each in turn beside good others: every family's spec through the
// reader that claims keys, and its tensor table.
#include "models/end_tokens.h"
#include "models/family.h"
#include "tests/fuzz/input.h"
#include "tests/models/model_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const fuzz::Folder folder;
  const char* const files[] = {"config.json", "model.safetensors.index.json", "generation_config.json"};
  const fuzz::Input input(data, size, std::size(files));
  static const test::TinyLlama tiny{
      .layers = 1, .width = 4, .heads = 1, .kv_heads = 1, .head_width = 4, .mlp_width = 4, .vocab = 5};
  static const std::string config = test::config_of(tiny).dump();
  static const bool written = [] {  // a shard for the index, and no model.safetensors beside it
    test::write_safetensors(folder.path() / "a.safetensors", test::stored_weights(tiny, 1));
    return true;
  }();
  static_cast<void>(written);
  folder.write("config.json", config);
  std::filesystem::remove(folder.path() / files[1]);
  std::filesystem::remove(folder.path() / files[2]);
  folder.write(files[input.choice], input.bytes);
  return fuzz::refuse_or_read([&] {
    const ModelFiles model = ModelFiles::open(folder.path());
    end_tokens(model);
    const ModelSpec spec = read_spec(model, {});
    spec.to_json();
    spec.sites();
    check_tensors(model, tensors_of(model, spec), spec);
  });
}
