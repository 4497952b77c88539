// The two kinds of file a tokenizer comes in. Each refuses by name what it does not know.
#pragma once

#include <filesystem>
#include <memory>

#include "io/tokenizer/tokenizer.h"

namespace sonde {

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& file);
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file);

}  // namespace sonde
