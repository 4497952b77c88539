#include "io/tokenizer/load.h"

#include <array>
#include <fstream>
#include <string_view>

#include "runtime/error.h"

namespace sonde {
namespace {

bool begins_with_gguf(const std::filesystem::path& file) {
  std::array<char, 4> magic{};
  std::ifstream(file, std::ios::binary).read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == "GGUF";
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(model, error);
  if (!fs::exists(status))
    fail_hint("a folder with tokenizer.json, a tokenizer.json or a .gguf file", "{}: no such file or folder",
              model.string());
  if (fs::is_directory(status)) {
    const fs::path file = model / "tokenizer.json";
    if (fs::exists(file, error)) return load_tokenizer_json(file);
    fail_hint("token ids can be given in place of text: --ids", "{}: no tokenizer.json in this folder{}",
              model.string(),
              fs::exists(model / "tokenizer.model", error) ? "; its tokenizer.model is not supported" : "");
  }
  // A pipe could not be opened a second time, and the first could wait for ever.
  if (!fs::is_regular_file(status))
    fail("{}: expected a folder or a regular file, found something else", model.string());
  return begins_with_gguf(model) ? load_gguf_tokenizer(model) : load_tokenizer_json(model);
}

}  // namespace sonde
