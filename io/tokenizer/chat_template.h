// Turns of a conversation as one text, in the way a model was trained on. The known ways are built in; which
// one a model needs is read off the text of its own template, which is not run.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

struct ChatMessage {
  std::string role;  // system, user, assistant
  std::string content;
};

class ChatTemplate {
 public:
  // By name; an unknown one is an Error with the known names.
  static ChatTemplate named(std::string_view name);
  // By the text of a Jinja template; `where` begins the Error when it is not recognised.
  static ChatTemplate recognised(std::string_view jinja, const std::string& where);
  // Of a model: chat_template.jinja or tokenizer_config.json in its folder, tokenizer.chat_template of a
  // GGUF.
  static ChatTemplate of_model(const std::filesystem::path& model);

  // The conversation up to where the assistant's next turn begins. bos and eos: texts of these tokens. The
  // result holds every special token, so it is encoded with AddSpecial::none.
  std::string apply(std::span<const ChatMessage> messages, std::string_view bos, std::string_view eos) const;
  const std::string& name() const { return name_; }

 private:
  std::string apply_turns(std::span<const ChatMessage> messages, std::string_view bos,
                          std::string_view eos) const;

  std::string name_;
  bool begins_with_bos_ = false;
  bool takes_system_ = true, skips_empty_system_ = false;
  bool leaves_out_thoughts_ = false;  // of earlier answers
  std::string default_system_;        // a first turn where the conversation has no system's
  std::string begins_answer_;         // what the assistant's next turn begins with
  std::string eos_;                   // where the template writes it out
};

// The messages of a JSON list [{"role": .., "content": ..}]; `where` begins the Errors.
std::vector<ChatMessage> parse_messages(std::string_view json, const std::string& where);

}  // namespace sonde
