// Files that lie or use what is not supported: one clear error each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <cmath>
#include <ctime>

#include <functional>

#include "io/tokenizer/tokenizer.h"
#include "runtime/error.h"
#include "tests/io/tokenizer_files.h"
#include "tests/io/tokenizer_toy.h"

namespace sonde {
namespace {

using testing::HasSubstr;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "no error";
}

std::string load_message(const std::string& name, const std::string& bytes) {
  const test::TemporaryFolder folder;
  const auto file = folder.write(name, bytes);
  const std::string message = message_of([&] { load_tokenizer(file); });
  EXPECT_THAT(message, testing::AnyOf("no error", HasSubstr(file.string())));
  return message;
}

const test::Merges kMerges = {{"a", "b"}, {"ab", "c"}};

struct JsonCase {
  const char* name;
  const char* pointer;  // what is replaced in a good file
  const char* value;
  const char* message;
};

class HostileTokenizerJson : public testing::TestWithParam<JsonCase> {};

TEST_P(HostileTokenizerJson, IsRefusedByName) {
  Json json = test::toy_json(kMerges);
  json[Json::json_pointer(GetParam().pointer)] = Json::parse(GetParam().value);
  EXPECT_THAT(load_message("tokenizer.json", json.dump()), HasSubstr(GetParam().message));
}

const JsonCase kJsonCases[] = {
    {"normalizer", "/normalizer", R"({"type": "Magic"})", "normalizer Magic"},
    {"normalizer_sequence", "/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "Bert"}]})",
     "normalizers[0]: normalizer Bert"},
    {"charsmap_base64", "/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "&&"})",
     "precompiled_charsmap: found \"&&\", expected base64"},
    {"charsmap_size", "/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "/////w=="})",
     "found 4 bytes that name a table of 4294967295"},
    {"charsmap_end", "/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAB"})",
     "do not end with NUL"},
    {"metaspace", "/pre_tokenizer", R"({"type": "Metaspace"})", "pre_tokenizer.replacement: not found"},
    {"metaspace_two", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})",
     "expected one character"},
    {"metaspace_scheme", "/pre_tokenizer",
     R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})", "last is not supported"},
    {"line_end_in_type", "/pre_tokenizer/type", R"("x\ny")", "pre-tokenizer x"},
    {"pattern_syntax", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"})",
     "pre_tokenizer.pattern.Regex: the pattern (a"},
    {"pattern_class", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "\\p{Klingon}"}, "behavior": "Isolated"})",
     "has \\p{Klingon}"},
    {"pattern_reference", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "(a)\\1"}, "behavior": "Isolated"})",
     "which is not supported"},
    {"behavior", "/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Shattered"})",
     "Shattered is not supported"},
    {"fixed_length", "/pre_tokenizer", R"({"type": "FixedLength", "length": 0})",
     "found 0, expected at least 1"},
    {"prefix_space_type", "/pre_tokenizer/add_prefix_space", "1",
     "pre_tokenizer.add_prefix_space: found 1, expected true or false"},
    {"post_processor", "/post_processor", R"({"type": "Magic"})", "post-processor Magic"},
    {"roberta_short", "/post_processor",
     R"({"type": "RobertaProcessing", "cls": ["<s>"], "sep": ["</s>", 1]})", "at least 2 elements"},
    {"template_id", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
      {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [1000000]}}})",
     "found token id 1000000"},
    {"template_name", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
      {"Sequence": {"id": "A"}}], "special_tokens": {}})",
     "special_tokens.<s>: not found"},
    {"template_sequences", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})", "0 sequences"},
    {"decoder", "/decoder", R"({"type": "Magic"})", "decoder Magic"},
    {"decoder_count", "/decoder", R"({"type": "Strip", "content": "a", "start": -1, "stop": 0})",
     "decoder.start: found -1, expected a count"},
    {"model_type", "/model/type", R"("WordPiece")", "model WordPiece is not supported"},
    {"unigram_vocab", "/model", R"({"type": "Unigram", "vocab": [["a", "b"]]})",
     "model.vocab[0][1]: found \"b\", expected a number"},
    {"unigram_unknown", "/model", R"({"type": "Unigram", "vocab": [["a", -1]], "unk_id": 1})",
     "model.unk_id: found 1, expected a token id below 1"},
    {"model_kind", "/model", "[]", "key model: found array, expected an object"},
    {"dropout", "/model/dropout", "0.1", "model.dropout: found 0.1"},
    {"vocab_kind", "/model/vocab", "[]", "model.vocab: found array"},
    {"huge_id", "/model/vocab/a", "4294967296", "found 4294967296, expected a token id"},
    {"negative_id", "/model/vocab/a", "-1", "found -1, expected a token id"},
    {"real_id", "/model/vocab/a", "1.5", "found 1.5, expected a token id"},
    {"far_id", "/model/vocab/a", "2147483647", "found id 2147483647 among"},
    {"id_twice", "/model/vocab/a", "98", "id 98 found for"},
    {"merge_kind", "/model/merges/0", "7", "model.merges[0]: found 7"},
    {"merge_of_three", "/model/merges/0", R"(["a", "b", "c"])", "model.merges[0]"},
    {"merge_spaces", "/model/merges/0", R"("a b c")", "model.merges[0]"},
    {"merge_no_space", "/model/merges/0", R"("ab")", "model.merges[0]"},
    {"merge_unknown_part", "/model/merges/0", R"(["a", "zz"])", "no token \"zz\""},
    {"merge_unknown_whole", "/model/merges/1", R"(["a", "a"])", "no token \"aa\""},
    {"merges_missing", "/model/merges", "null", "model.merges: found null, expected an array"},
    {"unk_missing", "/model", R"({"vocab": {"a": 0}, "merges": [], "unk_token": "?"})", "model.unk_token"},
    {"added_other_id", "/added_tokens", R"([{"id": 5, "content": "<s>"}])",
     "added_tokens[0].id: found 5, expected 258"},
    {"added_known_id", "/added_tokens", R"([{"id": 258, "content": "a"}])", "expected 97"},
    {"added_twice", "/added_tokens", R"([{"id": 258, "content": "<s>"}, {"id": 259, "content": "<s>"}])",
     "each added token once"},
    {"added_flag", "/added_tokens", R"([{"id": 258, "content": "<s>", "lstrip": "yes"}])",
     "added_tokens[0].lstrip"},
    {"added_negative", "/added_tokens", R"([{"id": -3, "content": "<s>"}])", "added_tokens[0].id: found -3"},
};
INSTANTIATE_TEST_SUITE_P(All, HostileTokenizerJson, testing::ValuesIn(kJsonCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(TokenizerFiles, GoodToyLoadsInBothFormsOfMerges) {
  Json json = test::toy_json(kMerges);
  EXPECT_EQ(load_message("tokenizer.json", json.dump()), "no error");
  json["model"]["merges"] = {"a b", "ab c"};
  json["model"].erase("type");
  EXPECT_EQ(load_message("tokenizer.json", json.dump()), "no error");
}

TEST(TokenizerFiles, BrokenOrAbsent) {
  const std::string good = test::toy_json(kMerges).dump();
  EXPECT_THAT(load_message("tokenizer.json", good.substr(0, good.size() / 2)), HasSubstr("not valid JSON"));
  EXPECT_THAT(load_message("tokenizer.json", ""), HasSubstr("not valid JSON"));
  EXPECT_THAT(load_message("tokenizer.json", "[]"), HasSubstr("expected an object"));
  EXPECT_THAT(load_message("tokenizer.json", "{}"), HasSubstr("key model: not found"));
  EXPECT_THAT(load_message("tokenizer.json", std::string(100000, '[')), HasSubstr("nested deeper"));
  const test::TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { load_tokenizer(folder.path()); }), HasSubstr("no tokenizer.json"));
  EXPECT_THAT(message_of([&] { load_tokenizer(folder.path() / "x"); }), HasSubstr("no such file"));
}

// bos and eos come from the files beside tokenizer.json.
TEST(TokenizerFiles, APipeIsNoFile) {
  const test::TemporaryFolder folder;
  const auto pipe = folder.path() / "tokenizer.json";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const auto& model : {pipe, folder.path()})
    EXPECT_THAT(message_of([&] { load_tokenizer(model); }), HasSubstr("regular file"));
}

TEST(TokenizerFiles, SpecialIdsOfTheFolder) {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::toy_json(kMerges).dump());
  EXPECT_EQ(load_tokenizer(folder.path())->bos(), -1);
  folder.write("config.json", R"({"bos_token_id": 3, "eos_token_id": [4, 5]})");
  EXPECT_EQ(load_tokenizer(folder.path())->bos(), 3);
  EXPECT_EQ(load_tokenizer(folder.path())->eos(), 4);
  folder.write("tokenizer_config.json", R"({"bos_token": null, "eos_token": {"content": "abc"}})");
  EXPECT_EQ(load_tokenizer(folder.path())->bos(), -1);
  EXPECT_EQ(load_tokenizer(folder.path())->eos(), 257);
  folder.write("tokenizer_config.json", R"({"bos_token": "<nowhere>"})");
  EXPECT_THAT(message_of([&] { load_tokenizer(folder.path()); }),
              HasSubstr("bos_token: found \"<nowhere>\""));
}

TEST(HostileGguf, IsRefusedByName) {
  const auto tokens = test::toy_tokens(kMerges);
  const auto file = [&](const std::string& pre, const auto& change) {
    test::GgufWriter writer = test::toy_gguf(pre, tokens, kMerges);
    change(writer);
    return load_message("vocab.gguf", writer.bytes());
  };
  const auto nothing = [](test::GgufWriter&) {};
  EXPECT_EQ(file("gpt-2", nothing), "no error");
  EXPECT_THAT(file("unheard-of", nothing), HasSubstr("tokenizer.ggml.pre: found \"unheard-of\""));
  EXPECT_THAT(file("gpt-2", [](auto& w) { w.integer("tokenizer.ggml.bos_token_id", 4000000000u); }),
              HasSubstr("bos_token_id: found 4000000000"));
  EXPECT_THAT(file("gpt-2",
                   [](auto& w) {
                     w.integers("tokenizer.ggml.token_type", {1, 2});
                   }),
              HasSubstr("found 2 types"));
  EXPECT_THAT(file("gpt-2", [](auto& w) { w.text("tokenizer.ggml.token_type", "x"); }),
              HasSubstr("tokenizer.ggml.token_type"));
  EXPECT_THAT(file("gpt-2", [](auto& w) { w.integer("tokenizer.ggml.add_bos_token", 1); }),
              HasSubstr("add_bos_token"));
  std::vector<std::int32_t> types(tokens.size(), 1);
  types[7] = 6;
  EXPECT_THAT(file("gpt-2", [&](auto& w) { w.integers("tokenizer.ggml.token_type", types); }),
              HasSubstr("found byte token"));

  auto twice = tokens;
  twice.push_back("a");
  EXPECT_THAT(load_message("v.gguf", test::toy_gguf("gpt-2", twice, kMerges).bytes()),
              HasSubstr("each token once"));
  EXPECT_THAT(load_message("v.gguf", test::toy_gguf("gpt-2", tokens, {{"a", "q"}}).bytes()),
              HasSubstr("no token \"aq\""));
  EXPECT_THAT(load_message("v.gguf", test::toy_gguf("gpt-2", {}, {}).bytes()), HasSubstr("found no tokens"));
  EXPECT_THAT(load_message("v.gguf", test::toy_gguf("gpt-2", tokens, {}).bytes()), "no error");
  test::GgufWriter unknown = test::toy_gguf("", tokens, {}, "rwkv");
  EXPECT_THAT(load_message("v.gguf", unknown.bytes()), HasSubstr("tokenizer.ggml.model: found \"rwkv\""));
  const auto spm = [&](std::vector<float> scores) {
    test::GgufWriter writer = test::toy_gguf("", {"<unk>", "a", "b", "ab"}, {}, "llama");
    writer.reals("tokenizer.ggml.scores", scores);
    return load_message("v.gguf", writer.bytes());
  };
  EXPECT_THAT(spm({0, 0, 0, 1}), HasSubstr("found no token <0x00> to <0xFF>"));
  EXPECT_THAT(spm({0, 0, 0}), HasSubstr("found 3 scores"));
  EXPECT_THAT(spm({0, 0, 0, NAN}), HasSubstr("scores[3]: found NaN"));
  EXPECT_THAT(load_message("v.gguf", test::GgufWriter().bytes()), HasSubstr("tokenizer.ggml.model"));
}

// What llama.cpp makes of types: look-alikes become control tokens, CONTROL is text unless parsed, unused is
// silent.
TEST(GgufTokenTypes, FollowLlamaCpp) {
  auto tokens = test::toy_tokens({});
  const auto add = [&](const char* text) {
    return tokens.push_back(text), static_cast<std::int32_t>(tokens.size() - 1);
  };
  const std::int32_t end = add("<|im_end|>"), mine = add("[mine]"), unused = add("<unused>"),
                     odd = add("\u4e2d");
  std::vector<std::int32_t> types(tokens.size(), 1);
  types[static_cast<std::size_t>(mine)] = 4;
  types[static_cast<std::size_t>(unused)] = 5;
  test::GgufWriter file = test::toy_gguf("smollm", tokens, {});
  file.integers("tokenizer.ggml.token_type", types);
  file.boolean("tokenizer.ggml.add_eos_token", true);
  file.integer("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(end));
  const test::TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("v.gguf", file.bytes()));
  std::vector<std::int32_t> ids;
  tokenizer->encode("a[mine]<|im_end|>", SpecialText::parse, AddSpecial::tokenizer, ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{'a', mine, end, end}));
  EXPECT_EQ(tokenizer->decode(ids, false), "a[mine]<|im_end|><|im_end|>");
  EXPECT_EQ(tokenizer->decode(ids, true), "a[mine]");
  tokenizer->encode("[mine]<|im_end|>", SpecialText::plain, AddSpecial::none, ids);
  EXPECT_EQ(ids.size(), 1 + std::string("<|im_end|>").size());
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{unused, odd}, false), "[UNK_BYTE_0xe4b8ad\u4e2d]");
}

// A character that no token covers is an Error where llama.cpp ends the process; the rest of the vocabulary
// serves.
TEST(HostileGguf, SomeByteTokensMissing) {
  test::GgufWriter writer = test::toy_gguf("", {"<unk>", "<0x61>", "\u2581", "x"}, {}, "llama");
  const test::TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("v.gguf", writer.bytes()));
  std::vector<std::int32_t> ids;
  tokenizer->encode("xa x", SpecialText::parse, AddSpecial::none, ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{2, 3, 1, 2, 3}));
  EXPECT_THAT(message_of([&] { tokenizer->encode("xb", SpecialText::parse, AddSpecial::none, ids); }),
              HasSubstr("found no token <0x62>"));
}

// A pattern that would take longer than anybody waits ends in an Error.
TEST(HostileTokenizerJson, CatastrophicPattern) {
  Json json = test::toy_json(kMerges);
  json["pre_tokenizer"] = Json::parse(
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "(a|aa|a?a)+b"},
          "behavior": "Isolated"}, {"type": "ByteLevel", "add_prefix_space": false}]})");
  const test::TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("tokenizer.json", json.dump()));
  std::vector<std::int32_t> ids;
  EXPECT_THAT(message_of([&] {
                tokenizer->encode(std::string(5000, 'a') + "cb", SpecialText::parse, AddSpecial::none, ids);
              }),
              HasSubstr("match limit"));
}

// A tokenizer whose first stage splits at a pattern, each match a piece.
std::unique_ptr<Tokenizer> splits_at(const char* pattern, const test::TemporaryFolder& folder) {
  Json json = test::toy_json({{"a", "a"}});
  json["pre_tokenizer"] =
      Json::parse(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": ""},
          "behavior": "Isolated"}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
  return load_tokenizer(folder.write("tokenizer.json", json.dump()));
}

double seconds_of(const std::function<void()>& action) {
  const auto start = std::clock();
  action();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// Every start looks at all that follows: quadratic and more in the length, which no match limit sees.
TEST(HostileTokenizerJson, PatternThatLooksFarAheadFromEveryStart) {
  std::vector<std::int32_t> ids;
  for (const char* pattern : {"<.*<.*<.*[>|]", "(?=(\\d{3})+(?!\\d))"}) {
    const test::TemporaryFolder folder;
    const auto tokenizer = splits_at(pattern, folder);
    std::string text = pattern[0] == '<' ? std::string(100000, '<') : std::string(50000, '1');
    const double seconds = seconds_of([&] {
      EXPECT_THAT(message_of([&] { tokenizer->encode(text, SpecialText::parse, AddSpecial::none, ids); }),
                  HasSubstr("the pattern " + std::string(pattern)));
    });
    EXPECT_LT(seconds, 60) << pattern;
    text.resize(900);
    EXPECT_EQ(message_of([&] { tokenizer->encode(text, SpecialText::parse, AddSpecial::none, ids); }),
              "no error");
  }
}

// Long stretches are matched a window at a time: no window's edge may show in the pieces.
TEST(TokenizerPattern, LongTextsAreCutAsIfTheyWereShort) {
  const test::TemporaryFolder folder;
  const auto words = splits_at("\\s+$|(?<=b)a+|\\ba+\\b|\\s+(?!\\S)|a+", folder);
  std::vector<std::int32_t> ids, expected;
  for (const int run : {1, 5, 1000, 1023, 1024, 1025, 3000, 20000}) {
    // A piece of an odd number of a is pairs and one a. What is cut off ends in ids 256 (aa) and 97.
    const std::string a(static_cast<std::size_t>(run), 'a'), spaces(static_cast<std::size_t>(run), ' ');
    const std::string text = "x" + spaces + "b" + a + spaces + "\n" + a + "y" + a + spaces;
    words->encode(text, SpecialText::parse, AddSpecial::none, ids);
    expected = {'x'};
    const auto add = [&](int n, std::int32_t id) {
      expected.insert(expected.end(), static_cast<std::size_t>(n), id);
    };
    const auto add_a = [&] { add(run / 2, 256), add(run % 2, 'a'); };
    add(run, ' '), add(1, 'b'), add_a(), add(run, ' '), add(1, '\n'), add_a(), add(1, 'y'), add_a();
    add(run, ' ');
    EXPECT_EQ(ids, expected) << run;
  }
}

// No component takes more than a step or so a byte: one megabyte without a space is done in a moment.
TEST(HostileTokenizerJson, LongTextsWithoutSpaces) {
  const std::string text(1 << 20, 'a');
  Json bpe = test::toy_json({{"a", "a"}, {"aa", "aa"}, {"aaaa", "a"}});
  Json unigram = bpe;
  bpe["pre_tokenizer"] = nullptr;
  unigram["pre_tokenizer"] = nullptr;
  unigram["model"] =
      Json::parse(R"({"type": "Unigram", "unk_id": 0, "vocab": [["?", 0], ["a", -1], ["aaa", -2]]})");
  for (const Json& json : {bpe, unigram}) {
    const test::TemporaryFolder folder;
    const auto tokenizer = load_tokenizer(folder.write("tokenizer.json", json.dump()));
    std::vector<std::int32_t> ids;
    const auto start = std::clock();
    tokenizer->encode(text, SpecialText::parse, AddSpecial::none, ids);
    EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 10.0);
    EXPECT_LT(ids.size(), text.size());
  }
}

TEST(TokenizerDecode, RefusesIdsOutsideTheVocabulary) {
  const test::TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("tokenizer.json", test::toy_json(kMerges).dump()));
  for (const std::int32_t id : {-1, 258, INT32_MAX, INT32_MIN})
    EXPECT_THAT(message_of([&] { tokenizer->decode({&id, 1}, false); }), HasSubstr("expected 0 to 257"));
}

}  // namespace
}  // namespace sonde
