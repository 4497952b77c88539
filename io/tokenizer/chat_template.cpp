#include "io/tokenizer/chat_template.h"

#include <fmt/format.h>

#include <array>

#include "io/file_util.h"
#include "io/gguf.h"
#include "io/json.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr char kHint[] =
    "give the final text in the text column without --chat, or name a built-in template: --chat-template "
    "NAME";

// One turn, where all turns of a role look alike.
struct Turns {
  std::string_view name;
  bool begins_with_bos;
  // {0}: content, {1}: eos. An empty form: the family has no such turn.
  std::string_view system, user, assistant, next;
  bool trims;
};
constexpr std::array<Turns, 9> kTurns = {{
    {"chatml", false, "<|im_start|>system\n{0}<|im_end|>\n", "<|im_start|>user\n{0}<|im_end|>\n",
     "<|im_start|>assistant\n{0}<|im_end|>\n", "<|im_start|>assistant\n", false},
    {"llama3", true, "<|start_header_id|>system<|end_header_id|>\n\n{0}<|eot_id|>",
     "<|start_header_id|>user<|end_header_id|>\n\n{0}<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n{0}<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n", true},
    {"gemma", true, "", "<start_of_turn>user\n{0}<end_of_turn>\n", "<start_of_turn>model\n{0}<end_of_turn>\n",
     "<start_of_turn>model\n", true},
    {"phi3", false, "<|system|>\n{0}<|end|>\n", "<|user|>\n{0}<|end|>\n", "<|assistant|>\n{0}<|end|>\n",
     "<|assistant|>\n", false},
    {"zephyr", false, "<|system|>\n{0}{1}\n", "<|user|>\n{0}{1}\n", "<|assistant|>\n{0}{1}\n",
     "<|assistant|>\n", false},
    {"command-r", true, "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{0}<|END_OF_TURN_TOKEN|>",
     "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{0}<|END_OF_TURN_TOKEN|>",
     "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{0}<|END_OF_TURN_TOKEN|>",
     "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", true},
    {"olmo2", true, "<|system|>\n{0}\n", "<|user|>\n{0}\n", "<|assistant|>\n{0}{1}\n", "<|assistant|>\n",
     false},
    {"qwen", false, "<|im_start|>system\n{0}<|im_end|>\n", "<|im_start|>user\n{0}<|im_end|>\n",
     "<|im_start|>assistant\n{0}<|im_end|>\n", "<|im_start|>assistant\n", false},
    {"smollm2", false, "<|im_start|>system\n{0}<|im_end|>\n", "<|im_start|>user\n{0}<|im_end|>\n",
     "<|im_start|>assistant\n{0}<|im_end|>\n", "<|im_start|>assistant\n", false},
}};
// The families of [INST]: a system's text goes into a user's turn, a bos may come with every turn.
constexpr std::array<std::string_view, 4> kInstructions = {"llama2", "mistral", "mistral-v3",
                                                           "mistral-tekken"};

constexpr std::string_view kSmolLm2System =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwen2System = "You are a helpful assistant.";
constexpr std::string_view kQwen25System =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr std::string_view kLlama31Dates =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

const Turns* find_turns(std::string_view name) {
  for (const Turns& turns : kTurns)
    if (turns.name == name) return &turns;
  return nullptr;
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\n\v\f\r";
  const std::size_t begin = text.find_first_not_of(kSpaces);
  if (begin == text.npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1));
}

std::string filled(std::string_view form, std::string_view content, std::string_view eos) {
  std::string text;
  for (std::size_t at = 0; at < form.size(); ++at) {
    if (form.substr(at, 3) == "{0}")
      text += content, at += 2;
    else if (form.substr(at, 3) == "{1}")
      text += eos, at += 2;
    else
      text += form[at];
  }
  return text;
}

std::string apply_instructions(std::string_view name, std::span<const ChatMessage> messages,
                               std::string_view bos, std::string_view eos) {
  std::string system, text;
  if (!messages.empty() && messages[0].role == "system") {
    system = messages[0].content;
    messages = messages.subspan(1);
  }
  std::size_t last_user = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != (i % 2 == 0 ? "user" : "assistant"))
      fail("chat template {}: found a turn of {} at place {}, expected user and assistant in turns", name,
           printable(messages[i].role), i + 1);
    if (i % 2 == 0) last_user = i;
  }
  if (name != "llama2") text = bos;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    std::string content = messages[i].content;
    const bool is_user = i % 2 == 0;
    if (name == "llama2") {
      if (i == 0 && !system.empty()) content = "<<SYS>>\n" + system + "\n<</SYS>>\n\n" + content;
      text += is_user ? std::string(bos) + "[INST] " + trimmed(content) + " [/INST]"
                      : " " + trimmed(content) + " " + std::string(eos);
      continue;
    }
    const bool has_system = is_user && !system.empty() && i == (name == "mistral" ? 0 : last_user);
    if (has_system) content = system + "\n\n" + content;
    if (name == "mistral")
      text += is_user ? "[INST] " + content + " [/INST]" : " " + content + std::string(eos);
    else if (name == "mistral-v3")
      text += is_user ? "[INST] " + content + "[/INST]" : " " + trimmed(content) + std::string(eos);
    else
      text += is_user ? "[INST]" + content + "[/INST]" : content + std::string(eos);
  }
  return text;
}

bool is_instructions(std::string_view name) {
  for (const std::string_view known : kInstructions)
    if (known == name) return true;
  return false;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

std::string_view family_of(std::string_view jinja) {
  if (has(jinja, "<|im_start|>")) return "chatml";
  if (has(jinja, "<|start_header_id|>")) return "llama3";
  if (has(jinja, "<start_of_turn>")) return "gemma";
  if (has(jinja, "<|START_OF_TURN_TOKEN|>")) return "command-r";
  if (has(jinja, "[INST]")) {
    if (has(jinja, "<<SYS>>")) return "llama2";
    if (has(jinja, " [/INST]")) return "mistral";
    return has(jinja, "[INST] ") ? "mistral-v3" : "mistral-tekken";
  }
  const std::size_t user = jinja.find("<|user|>");
  if (user == jinja.npos) return "";
  if (has(jinja, "<|end|>")) return "phi3";
  return has(jinja.substr(user, 80), "eos_token") ? "zephyr" : "olmo2";
}

// The template of a folder's files, or nothing.
std::string folder_template(const std::filesystem::path& folder, std::string& where) {
  std::error_code error;
  if (const auto path = folder / "chat_template.jinja"; std::filesystem::exists(path, error)) {
    where = path.string();
    return read_file(path, 1 << 24);
  }
  const auto path = folder / "tokenizer_config.json";
  where = path.string() + ": key chat_template";
  if (!std::filesystem::exists(path, error)) return "";
  const Json config = read_json(path);
  if (!config.is_object() || !config.contains("chat_template")) return "";
  const Json& found = config["chat_template"];
  if (found.is_string()) return found.get<std::string>();
  if (found.is_array())
    for (const Json& entry : found)
      if (entry.is_object() && entry.value("name", Json()) == "default" && entry.contains("template") &&
          entry["template"].is_string())
        return entry["template"].get<std::string>();
  return "";
}

}  // namespace

ChatTemplate ChatTemplate::named(std::string_view name) {
  ChatTemplate result;
  result.name_ = name;
  std::string names;
  for (const Turns& turns : kTurns) names += fmt::format("{}, ", turns.name);
  for (const std::string_view known : kInstructions) names += fmt::format("{}, ", known);
  names.resize(names.size() - 2);
  const Turns* turns = find_turns(name);
  if (!turns && !is_instructions(name))
    fail_hint(kHint, "--chat-template: found '{}', expected one of {}", printable(name), names);
  result.begins_with_bos_ = turns && turns->begins_with_bos;
  if (name == "smollm2") result.default_system_ = kSmolLm2System;
  if (name == "qwen") result.default_system_ = kQwen2System;
  return result;
}

ChatTemplate ChatTemplate::recognised(std::string_view jinja, const std::string& where) {
  const std::string_view family = family_of(jinja);
  if (family.empty()) fail_hint(kHint, "{}: the chat template is none that is known", where);
  ChatTemplate result = named(family);
  result.begins_with_bos_ = has(jinja, "bos_token");
  for (const std::string_view system : {kSmolLm2System, kQwen25System, kQwen2System})
    if (family == "chatml" && result.default_system_.empty() && has(jinja, system))
      result.default_system_ = system;
  if (family == "llama3" && has(jinja, "Cutting Knowledge Date")) result.default_system_ = kLlama31Dates;
  return result;
}

ChatTemplate ChatTemplate::of_model(const std::filesystem::path& model) {
  std::string where, jinja;
  if (std::filesystem::is_directory(model)) {
    jinja = folder_template(model, where);
  } else if (model.extension() == ".json") {
    jinja = folder_template(model.parent_path(), where);
  } else {
    const auto gguf = Gguf::open(model);
    where = model.string() + ": key tokenizer.chat_template";
    if (gguf->has("tokenizer.chat_template")) jinja = gguf->text("tokenizer.chat_template");
  }
  if (jinja.empty()) fail_hint(kHint, "{}: no chat template found", where);
  return recognised(jinja, where);
}

std::string ChatTemplate::apply(std::span<const ChatMessage> messages, std::string_view bos,
                                std::string_view eos) const {
  if (is_instructions(name_)) return apply_instructions(name_, messages, bos, eos);
  const Turns& turns = *find_turns(name_);
  std::string text(begins_with_bos_ ? bos : "");
  std::string user_prefix;
  const bool has_system = !messages.empty() && messages[0].role == "system";
  // Llama 3.1 writes dates into its system's turn, whether there is one or not.
  const bool has_dates = default_system_ == kLlama31Dates;
  if (has_dates)
    text += filled(turns.system, default_system_ + (has_system ? trimmed(messages[0].content) : ""), eos);
  else if (!has_system && !default_system_.empty())
    text += filled(turns.system, default_system_, eos);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const std::string content = turns.trims ? trimmed(message.content) : message.content;
    if (message.role == "system") {
      if (i == 0 && has_dates) continue;
      if (!turns.system.empty())
        text += filled(turns.system, content, eos);
      else if (i == 0)  // Gemma: before the first user's text
        user_prefix = message.content + "\n\n";
      else
        fail("chat template {}: found a system's turn at place {}, expected it first", name_, i + 1);
    } else if (message.role == "user") {
      text += filled(turns.user, user_prefix + content, eos);
      user_prefix.clear();
    } else {
      text += filled(turns.assistant, content, eos);
    }
  }
  return text.append(turns.next);
}

std::vector<ChatMessage> parse_messages(std::string_view json, const std::string& where) {
  const Json list = parse_json(json, where);
  if (!list.is_array() || list.empty())
    fail("{}: key messages: found {}, expected a list of {{\"role\": .., \"content\": ..}}", where,
         list.type_name());
  std::vector<ChatMessage> messages;
  for (const Json& entry : list) {
    const auto text = [&](const char* key) {
      if (!entry.is_object() || !entry.contains(key) || !entry[key].is_string())
        fail("{}: key messages[{}].{}: not found, expected a text", where, messages.size(), key);
      return entry[key].get<std::string>();
    };
    messages.push_back({text("role"), text("content")});
    const std::string& role = messages.back().role;
    if (role != "system" && role != "user" && role != "assistant")
      fail("{}: key messages[{}].role: found '{}', expected system, user or assistant", where,
           messages.size() - 1, printable(role));
  }
  return messages;
}

}  // namespace sonde
