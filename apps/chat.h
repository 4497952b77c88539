// --chat: texts and conversations through the model's chat template.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "apps/command.h"
#include "io/tokenizer/tokenizer.h"

namespace sonde {

void add_chat_options(po::options_description& options);

// The text to encode for a text (one user's turn) or, with is_messages, for a list [{"role": .., "content":
// ..}]. Empty without --chat. The result has its special tokens: nothing is to be added around it.
using ChatRewrite =
    std::function<std::string(const std::string& text, bool is_messages, const std::string& where)>;
ChatRewrite read_chat_options(const po::variables_map& values, const std::filesystem::path& model,
                              const Tokenizer& tokenizer);
bool asks_for_chat(const po::variables_map& values);

}  // namespace sonde
