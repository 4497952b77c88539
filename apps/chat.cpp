#include "apps/chat.h"

#include "io/tokenizer/chat_template.h"
#include "runtime/error.h"

namespace sonde {

void add_chat_options(po::options_description& options) {
  options.add_options()(
      "chat",
      "put each text (or the conversation in a column `messages`: [{\"role\": .., \"content\": ..}]) "
      "into the model's chat template")(
      "chat-template", po::value<std::string>(),
      "the built-in template to use: chatml, llama3, gemma, ... (default: the one the model's files name)");
}

bool asks_for_chat(const po::variables_map& values) {
  if (values.count("chat-template") && !values.count("chat"))
    throw UsageError("--chat-template belongs to --chat");
  return values.count("chat") > 0;
}

ChatRewrite read_chat_options(const po::variables_map& values, const std::filesystem::path& model,
                              const Tokenizer& tokenizer) {
  if (!asks_for_chat(values)) return {};
  const ChatTemplate chat = values.count("chat-template")
                                ? ChatTemplate::named(values["chat-template"].as<std::string>())
                                : ChatTemplate::of_model(model);
  const auto text_of = [&](std::int32_t id) {
    return id < 0 ? std::string() : tokenizer.decode({&id, 1}, false);
  };
  return [chat, bos = text_of(tokenizer.bos()), eos = text_of(tokenizer.eos())](
             const std::string& text, bool is_messages, const std::string& where) {
    const std::vector<ChatMessage> messages =
        is_messages ? parse_messages(text, where) : std::vector<ChatMessage>{{"user", text}};
    return chat.apply(messages, bos, eos);
  };
}

}  // namespace sonde
