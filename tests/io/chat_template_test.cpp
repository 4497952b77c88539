// Conversations as texts: what the families' published templates render, and how a template is recognised.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/tokenizer/chat_template.h"
#include "runtime/error.h"
#include "tests/io/tokenizer_files.h"

namespace sonde {
namespace {

using testing::HasSubstr;

const std::vector<ChatMessage> kTalk = {
    {"system", "Be brief."}, {"user", " Hi "}, {"assistant", "Hello"}, {"user", "Who?"}};
const std::vector<ChatMessage> kOneTurn = {{"user", " Hi "}};

struct Case {
  std::string jinja, talk, one_turn;
};
// Shortened to what a template is recognised by; the expected texts are those of the whole published
// templates.
const Case kCases[] = {
    {"{% for message in messages %}{{'<|im_start|>' + message['role'] ...",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi "
     "<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
     "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"},
    {"{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi "
     "<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
     "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"},
    {"{% set content = '<|start_header_id|>' + ... + message['content'] | trim + '<|eot_id|>' %}{{ bos_token "
     "}}",
     "<B><|start_header_id|>system<|end_header_id|>\n\nBe "
     "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user"
     "<|end_header_id|>\n\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<B><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|"
     ">\n\n"},
    {"{{ bos_token }}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim }}",
     "<B><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
     "<start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
     "<B><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"},
    {"{{ '<<SYS>>\n' + system_message }}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}",
     "<B>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello <E><B>[INST] Who? [/INST]",
     "<B>[INST] Hi [/INST]"},
    {"{{ bos_token }}{{ ' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]' }}",
     "<B> [INST] Be brief.\n\n Hi  [/INST] Hello<E> [INST] Who? [/INST]", "<B> [INST]  Hi  [/INST]"},
    {"{{ bos_token }}{{ \"[INST]\" + message[\"content\"] + \"[/INST]\" }}",
     "<B>[INST] Hi [/INST]Hello<E>[INST]Be brief.\n\nWho?[/INST]", "<B>[INST] Hi [/INST]"},
    {"{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{{ '<|im_start|>' + role }}{{ '</think>' }}",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi "
     "<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
     "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"},
    {"{{ bos_token }}{{ '[INST] ' + message['content'] + '[/INST]' }}",
     "<B>[INST]  Hi [/INST] Hello<E>[INST] Be brief.\n\nWho?[/INST]", "<B>[INST]  Hi [/INST]"},
    {"{{'<|system|>\n'}}{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}",
     "<|system|>\nBe brief.<|end|>\n<|user|>\n Hi "
     "<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nWho?<|end|>\n"
     "<|assistant|>\n",
     "<|user|>\n Hi <|end|>\n<|assistant|>\n"},
    {"{{ '<|user|>\n' + message['content'] + eos_token }}",
     "<|system|>\nBe brief.<E>\n<|user|>\n Hi "
     "<E>\n<|assistant|>\nHello<E>\n<|user|>\nWho?<E>\n<|assistant|>\n",
     "<|user|>\n Hi <E>\n<|assistant|>\n"},
    {"{{ bos_token }}{{ '<|system|>\n' }}{{ '<|user|>\n' + message['content'] + '\n' }}"
     "{{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}",
     "<B><|system|>\nBe brief.\n<|user|>\n Hi \n<|assistant|>\nHello<E>\n<|user|>\nWho?\n<|assistant|>\n",
     "<B><|user|>\n Hi \n<|assistant|>\n"},
    {"{{ bos_token }}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' "
     "}}",
     "<B><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be "
     "brief.<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi"
     "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello<|END_OF_TURN_TOKEN|><|START_OF_TURN_"
     "TOKEN|>"
     "<|USER_TOKEN|>Who?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
     "<B><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|"
     ">"},
};

TEST(ChatTemplate, RendersTheFamilies) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.jinja);
    const ChatTemplate chat = ChatTemplate::recognised(c.jinja, "file");
    EXPECT_EQ(chat.apply(kTalk, "<B>", "<E>"), c.talk);
    EXPECT_EQ(chat.apply(kOneTurn, "<B>", "<E>"), c.one_turn);
  }
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what() + std::string(" HINT: ") + error.hint();
  }
  return "no error";
}

TEST(ChatTemplate, UnknownOnesAreErrors) {
  EXPECT_THAT(
      message_of([] { ChatTemplate::recognised("{{ messages }}", "f.json"); }),
      testing::AllOf(HasSubstr("f.json: the chat template is none that is known"), HasSubstr("final text")));
  EXPECT_THAT(message_of([] { ChatTemplate::named("klingon"); }), HasSubstr("expected one of chatml"));
  EXPECT_THAT(message_of([] { parse_messages("[{\"role\": \"tool\", \"content\": \"\"}]", "f:1"); }),
              HasSubstr("messages[0].role: found 'tool'"));
  EXPECT_THAT(message_of([] { parse_messages("{}", "f:1"); }), HasSubstr("found object"));
  const test::TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { ChatTemplate::of_model(folder.path()); }),
              HasSubstr("no chat template found"));
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "<|im_start|>"}]})");
  EXPECT_EQ(ChatTemplate::of_model(folder.path()).name(), "chatml");
  folder.write("chat_template.jinja", "<start_of_turn>");
  EXPECT_EQ(ChatTemplate::of_model(folder.path()).name(), "gemma");
}

// What the families' own templates refuse or leave out, and relatives that look like them.
TEST(ChatTemplate, RefusesWhatItsTemplateWould) {
  const auto of = [](const std::string& jinja, std::vector<ChatMessage> talk) {
    return message_of([&] { ChatTemplate::recognised(jinja, "f").apply(talk, "<B>", "<E>"); });
  };
  const std::string gemma = "{{ raise_exception('System role not supported') }}<start_of_turn>";
  const std::string old =
      "{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}";
  const std::string phi = "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>'}}";
  for (const std::string& jinja : {gemma, old, phi}) {
    EXPECT_THAT(of(jinja, kTalk), HasSubstr("found a system's turn, expected none"));
    EXPECT_THAT(of(jinja, {{"user", "a"}, {"user", "b"}}), HasSubstr("user and assistant in turns"));
    EXPECT_EQ(of(jinja, kOneTurn), "no error");
  }
  for (const char* jinja :
       {"'<|im_start|>system<|im_sep|>'", "'[SYSTEM_PROMPT] ' + '[INST] '", "<|user|>\n{{ item['content'] }}",
        "{{ '<|im_start|>system\\nToday is ' + date + '<|im_end|>' }}", "<|vision_start|><|im_start|>"})
    EXPECT_THAT(of(jinja, kOneTurn), HasSubstr("none that is known")) << jinja;
}

TEST(ChatTemplate, LeavesOutWhatEarlierAnswersThought) {
  const ChatTemplate qwen3 = ChatTemplate::recognised("'<|im_start|>' '</think>'", "f");
  std::vector<ChatMessage> talk = {{"user", "a"}, {"assistant", "<think>\nhm\n</think>\n\nb"}, {"user", "c"}};
  EXPECT_EQ(qwen3.apply(talk, "", ""),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
  talk.pop_back();
  EXPECT_EQ(qwen3.apply(talk, "", ""),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nb<|im_end|>\n"
            "<|im_start|>assistant\n");
}

// The chat prompt among the real goldens is SmolLM2's own template, applied.
TEST(ChatTemplate, OfSmolLM2) {
  const auto gguf = test::smollm2_gguf();
  if (gguf.empty()) GTEST_SKIP() << "the default model is not in the cache (set SONDE_SMOLLM2_GGUF)";
  const ChatTemplate chat = ChatTemplate::of_model(gguf);
  EXPECT_EQ(
      chat.apply(kOneTurn, "<B>", "<E>"),
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
      "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace sonde
