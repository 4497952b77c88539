#include "io/tokenizer/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

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
struct InstForm {
  enum class System : std::uint8_t { none, first, last };  // which user's text it is put before
  std::string_view name, open, close, answer, after;       // after: behind an answer's eos
  bool trims;                                              // answers
  System system;
};
constexpr std::array<Turns, 10> kTurns = {{
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
    {"phi3-medium", false, "", "<|user|>\n{0}<|end|>\n<|assistant|>\n", "{0}<|end|>\n", "", false},
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
// Mistral's forms: [INST] around what a user says, a system's text in front of one user's.
constexpr std::array<InstForm, 6> kInstForms = {{
    {"mistral", " [INST] ", " [/INST]", " ", "", false, InstForm::System::first},
    {"mistral-v0.1", "[INST] ", " [/INST]", "", " ", false, InstForm::System::none},
    {"mistral-v0.2", "[INST] ", " [/INST]", "", "", false, InstForm::System::none},
    {"mistral-v3", "[INST] ", "[/INST]", " ", "", true, InstForm::System::last},
    {"mistral-tekken", "[INST]", "[/INST]", "", "", false, InstForm::System::last},
    {"llama2", "", "", "", "", true, InstForm::System::first},
}};

constexpr std::string_view kSmolLm2System =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwen2System = "You are a helpful assistant.";
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

// Users and assistants in turns, behind a system's turn or not.
void check_turns(std::string_view name, std::span<const ChatMessage> messages) {
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role != (i % 2 == 0 ? "user" : "assistant"))
      fail_hint(kHint,
                "chat template {}: found a turn of {} at place {}, expected user and assistant in turns",
                name, printable(messages[i].role), i + 1);
}

std::string apply_llama2(std::span<const ChatMessage> messages, const std::string* system,
                         std::string_view bos, std::string_view eos) {
  std::string text;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    std::string content = messages[i].content;
    if (i == 0 && system) content = "<<SYS>>\n" + *system + "\n<</SYS>>\n\n" + content;
    text += i % 2 == 0 ? std::string(bos) + "[INST] " + trimmed(content) + " [/INST]"
                       : " " + trimmed(content) + " " + std::string(eos);
  }
  return text;
}

std::string apply_mistral(const InstForm& form, std::span<const ChatMessage> messages,
                          const std::string* system, std::string_view bos, std::string_view eos) {
  std::string text(bos);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    std::string content = messages[i].content;
    if (i % 2 == 1) {
      text.append(form.answer).append(form.trims ? trimmed(content) : content).append(eos).append(form.after);
      continue;
    }
    const bool here = form.system == InstForm::System::first ? i == 0 : i + 1 == messages.size();
    if (system && here) content = *system + "\n\n" + content;
    text.append(form.open).append(content).append(form.close);
  }
  return text;
}

const InstForm* find_inst_form(std::string_view name) {
  for (const InstForm& form : kInstForms)
    if (form.name == name) return &form;
  return nullptr;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// A literal of Jinja, in either kind of quotes.
bool has_literal(std::string_view jinja, const std::string& text) {
  return has(jinja, "'" + text + "'") || has(jinja, '"' + text + '"');
}

std::string_view mistral_of(std::string_view jinja) {
  if (has_literal(jinja, " [INST] ")) return "mistral";
  if (has_literal(jinja, " [/INST]"))
    return has(jinja, "eos_token + ' '") || has(jinja, "eos_token + \" \"") ? "mistral-v0.1" : "mistral-v0.2";
  return has_literal(jinja, "[INST] ") ? "mistral-v3" : "mistral-tekken";
}

// Marks of relatives whose turns look otherwise, or who say more in a system's turn.
constexpr std::string_view kOthers[] = {
    "<|im_sep|>",         "[SYSTEM_PROMPT]", "<|vision_start|>", "## Metadata", "[gMASK]",        "reamble",
    "<|START_RESPONSE|>", "true == true",    "messages[idx]",    "<functions>", "/no_think\" in",
};

std::string_view family_of(std::string_view jinja) {
  for (const std::string_view other : kOthers)
    if (has(jinja, other)) return "";
  if (has(jinja, "<|im_start|>")) return "chatml";
  if (has(jinja, "<|start_header_id|>")) return has(jinja, "think>") ? "" : "llama3";
  if (has(jinja, "<start_of_turn>")) return "gemma";
  if (has(jinja, "<|START_OF_TURN_TOKEN|>")) return "command-r";
  if (has(jinja, "<<SYS>>")) return has(jinja, "bos_token + '[INST] '") ? "llama2" : "";
  if (has(jinja, "[INST]")) return mistral_of(jinja);
  const std::size_t user = jinja.find("<|user|>");
  if (user == jinja.npos) return "";
  if (has(jinja, "<|end|>")) return has(jinja, "<|system|>") ? "phi3" : "phi3-medium";
  const std::string_view turn = jinja.substr(user, 80);
  if (has(turn, "eos_token") || has(turn, "'<|endoftext|>'")) return "zephyr";
  return has(jinja, "eos_token + '") && !has(jinja, "{{ eos_token }}") ? "olmo2" : "";
}

// What a ChatML template says as the system where the conversation has none: the literal between the marks of
// such a turn. Nothing where it never stands there; more than a literal is not understood.
std::optional<std::string> default_system_of(std::string_view jinja) {
  constexpr std::string_view kOpen = "<|im_start|>system", kClose = "<|im_end|>";
  for (std::size_t at = 0; (at = jinja.find(kOpen, at)) != jinja.npos;) {
    at += kOpen.size();
    std::string_view rest = jinja.substr(at);
    rest.remove_prefix(rest.starts_with("\\n") ? 2 : rest.starts_with('\n') ? 1 : 0);
    const std::size_t end = std::min(rest.find_first_of("'\"{"), rest.find(kClose));
    if (end == rest.npos || end == 0) continue;
    if (!rest.substr(end).starts_with(kClose)) return std::nullopt;
    return std::string(rest.substr(0, end));
  }
  return "";
}

// Qwen 3: what an answer thought is left out, but for one behind the last question.
std::string without_thoughts(const std::string& content, bool is_last) {
  constexpr std::string_view kEnd = "</think>", kBegin = "<think>";
  const auto strip = [](std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
  };
  std::string thought, answer = content;
  if (const std::size_t end = content.rfind(kEnd); end != content.npos) {
    thought = content.substr(0, content.find(kEnd));
    if (const std::size_t begin = thought.rfind(kBegin); begin != thought.npos)
      thought.erase(0, begin + kBegin.size());
    answer = content.substr(end + kEnd.size());
    answer.erase(0, std::min(answer.find_first_not_of('\n'), answer.size()));
  }
  if (!is_last) return answer;
  answer.erase(0, std::min(answer.find_first_not_of('\n'), answer.size()));
  return "<think>\n" + strip(thought) + "\n</think>\n\n" + answer;
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
  for (const InstForm& form : kInstForms) names += fmt::format("{}, ", form.name);
  names.resize(names.size() - 2);
  const Turns* turns = find_turns(name);
  if (!turns && !find_inst_form(name))
    fail_hint(kHint, "--chat-template: found '{}', expected one of {}", printable(name), names);
  result.begins_with_bos_ = !turns || turns->begins_with_bos;
  result.takes_system_ = name != "phi3-medium";
  if (name == "smollm2") result.default_system_ = kSmolLm2System;
  if (name == "qwen") result.default_system_ = kQwen2System;
  return result;
}

ChatTemplate ChatTemplate::recognised(std::string_view jinja, const std::string& where) {
  const std::string_view family = family_of(jinja);
  const std::optional<std::string> system = family == "chatml" ? default_system_of(jinja) : "";
  if (family.empty() || !system) fail_hint(kHint, "{}: the chat template is none that is known", where);
  ChatTemplate result = named(family);
  result.begins_with_bos_ = has(jinja, "bos_token");
  result.default_system_ = *system;
  if (family == "llama3" && has(jinja, "Cutting Knowledge Date")) result.default_system_ = kLlama31Dates;
  // What jinja would refuse or leave out.
  if (family == "gemma") result.takes_system_ = !has(jinja, "System role not supported");
  result.skips_empty_system_ = has(jinja, "'system' and message['content']");
  if (family == "chatml") {
    result.leaves_out_thoughts_ = has(jinja, "</think>");
    if (has(jinja, "<|im_start|>assistant\\n<think>\\n'")) result.begins_answer_ = "<think>\n";
  }
  if (family == "zephyr" && !has(jinja, "eos_token")) result.eos_ = "<|endoftext|>";
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
  const bool has_system = !messages.empty() && messages[0].role == "system";
  const InstForm* inst = find_inst_form(name_);
  if (has_system && !(inst ? inst->system != InstForm::System::none : takes_system_))
    fail_hint(kHint, "chat template {}: found a system's turn, expected none: this form has no place for it",
              name_);
  if (!eos_.empty()) eos = eos_;
  if (inst || name_ == "gemma" || name_ == "command-r" || name_ == "phi3-medium")
    check_turns(name_, messages.subspan(has_system ? 1 : 0));
  if (!inst) return apply_turns(messages, bos, eos);
  const std::string* system = has_system ? &messages[0].content : nullptr;
  if (has_system) messages = messages.subspan(1);
  return name_ == "llama2" ? apply_llama2(messages, system, bos, eos)
                           : apply_mistral(*inst, messages, system, begins_with_bos_ ? bos : "", eos);
}

std::string ChatTemplate::apply_turns(std::span<const ChatMessage> messages, std::string_view bos,
                                      std::string_view eos) const {
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
  std::size_t last_user = 0;
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role == "user") last_user = i;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const std::string content = turns.trims ? trimmed(message.content) : message.content;
    if (message.role == "system") {
      if ((i == 0 && has_dates) || (skips_empty_system_ && content.empty())) continue;
      if (!turns.system.empty())
        text += filled(turns.system, name_ == "command-r" ? message.content : content, eos);
      else  // Gemma: before the first user's text
        user_prefix = message.content + "\n\n";
    } else if (message.role == "user") {
      text += filled(turns.user, user_prefix + content, eos);
      user_prefix.clear();
    } else {
      text += filled(turns.assistant,
                     leaves_out_thoughts_ ? without_thoughts(content, i > last_user) : content, eos);
    }
  }
  if (name_ == "olmo2" && messages.size() > 0 && messages.back().role == "assistant") text.pop_back();
  return text.append(turns.next).append(begins_answer_);
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
