// Byte-pair merging against the definition carried out naively, offsets, size of words, threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <thread>

#include "io/tokenizer/bpe_merge.h"
#include "io/tokenizer/encode_batch.h"
#include "io/tokenizer/tokenizer.h"
#include "tests/io/tokenizer_files.h"
#include "tests/io/tokenizer_toy.h"

namespace sonde {
namespace {

using Ids = std::vector<std::int32_t>;

Ids encode(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode(text, SpecialText::parse, AddSpecial::none, ids);
  return ids;
}

std::unique_ptr<Tokenizer> load(const Json& json) {
  const test::TemporaryFolder folder;
  return load_tokenizer(folder.write("tokenizer.json", json.dump()));
}

// The definition: look at all pairs, merge the one of lowest rank that is leftmost, look again.
Ids merge_naively(const MergeTable& merges, Ids ids) {
  while (true) {
    std::size_t best = ids.size();
    Merge lowest;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i)
      if (const Merge merge = merges.find(ids[i], ids[i + 1]); merge.rank < lowest.rank)
        lowest = merge, best = i;
    if (best == ids.size()) return ids;
    ids[best] = lowest.id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(TokenizerBpe, EqualsTheDefinitionForAnyRanks) {
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return static_cast<std::int32_t>(random() % n); };
  for (int vocabulary = 0; vocabulary < 60; ++vocabulary) {
    // Few letters, ranks in any order: later merges may have lower ranks than those that make their parts.
    const int letters = 2 + below(4), tokens = letters + 40;
    MergeTable merges(200);
    std::vector<std::uint32_t> ranks(200);
    for (std::uint32_t i = 0; i < ranks.size(); ++i) ranks[i] = i;
    std::shuffle(ranks.begin(), ranks.end(), random);
    for (const std::uint32_t rank : ranks)
      merges.insert(below(tokens), below(tokens), {rank, below(tokens)}, false);
    for (const std::size_t length : {0, 1, 2, 3, 7, 20, 47, 48, 49, 50, 120, 400}) {
      BpeWord word;
      for (std::size_t i = 0; i < length; ++i) {
        word.ids.push_back(below(static_cast<std::size_t>(letters)));
        word.spans.push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i + 1)});
      }
      BpeWord plain{word.ids, {}, {}, {}, {}, {}};
      const Ids expected = merge_naively(merges, word.ids);
      merge_word(merges, word);
      merge_word(merges, plain);
      ASSERT_EQ(word.ids, expected) << "length " << length;
      ASSERT_EQ(plain.ids, expected) << "length " << length;
      ASSERT_EQ(word.spans.size(), expected.size());
      std::uint32_t at = 0;  // spans lie side by side
      for (const Span span : word.spans) {
        EXPECT_EQ(span.begin, at);
        EXPECT_LT(span.begin, span.end);
        at = span.end;
      }
      EXPECT_EQ(at, length);
    }
  }
}

TEST(TokenizerBpe, OneLongWordIsNotQuadratic) {
  test::Merges merges;
  for (std::string part = "a"; part.size() < 1024; part += part) merges.push_back({part, part});
  merges.push_back({"a", "b"});
  const auto tokenizer = load(test::toy_json(merges));
  const auto cpu_seconds = [&](std::size_t size) {
    const std::string text(size, 'a');
    const std::clock_t start = std::clock();
    const Ids ids = encode(*tokenizer, text);
    EXPECT_EQ(ids.size(), size / 1024);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  };
  cpu_seconds(1 << 16);  // grows the buffers
  const double small = cpu_seconds(1 << 18), large = cpu_seconds(1 << 21);
  EXPECT_LT(large, 24 * small + 0.05) << "8 times the bytes; quadratic would be 64 times the time";
}

TEST(TokenizerBpe, DropsBytesWithoutTokenAsEachLibraryDoes) {
  const test::Merges merges = {{"!", "!"}};
  const test::TemporaryFolder folder;
  const std::string text = "!\x04!";
  const auto hugging_face = load(test::toy_json(merges, "\x04"));
  EXPECT_EQ(encode(*hugging_face, text), Ids{255});  // the gap closes, the neighbours merge
  const Encoding closed = hugging_face->encode_with_offsets(text, SpecialText::parse, AddSpecial::none);
  EXPECT_EQ(closed.begin, std::vector<std::uint32_t>{0});
  EXPECT_EQ(closed.end, std::vector<std::uint32_t>{3});

  const auto path =
      folder.write("v.gguf", test::toy_gguf("gpt-2", test::toy_tokens(merges, "\x04"), merges).bytes());
  const auto llama_cpp = load_tokenizer(path);
  EXPECT_EQ(encode(*llama_cpp, text), (Ids{'!' - 1, '!' - 1}));
  const Encoding open = llama_cpp->encode_with_offsets(text, SpecialText::parse, AddSpecial::none);
  EXPECT_EQ(open.begin, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_EQ(open.end, (std::vector<std::uint32_t>{1, 3}));
}

TEST(TokenizerBpe, UnknownTokenStandsForMissingBytes) {
  Json json = test::toy_json({{"a", "b"}}, "xy");
  json["model"]["vocab"]["<unk>"] = 300;
  json["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(encode(*load(json), "xya"), (Ids{300, 300, 'a'}));
  json["model"]["fuse_unk"] = true;
  const auto fused = load(json);
  EXPECT_EQ(encode(*fused, "xyaby"), (Ids{300, 254, 300}));
  const Encoding encoding = fused->encode_with_offsets("xyaby", SpecialText::parse, AddSpecial::none);
  EXPECT_EQ(encoding.end, (std::vector<std::uint32_t>{2, 4, 5}));
}

TEST(TokenizerOffsets, CoverWhatTheTokenStandsFor) {
  const test::Merges merges = {
      {"h", "i"}, {test::letter(' '), "hi"}, {test::letter(0xC3), test::letter(0xA9)}};
  Json json = test::toy_json(merges);
  json["pre_tokenizer"]["add_prefix_space"] = true;
  json["added_tokens"] = Json::parse(R"([{"id": 259, "content": "<s>", "special": true, "normalized": false},
    {"id": 260, "content": "<m>", "special": true, "normalized": false, "lstrip": true}])");
  json["post_processor"] =
      Json::parse(R"({"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [259]}},
    "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<s>"}}]})");
  const auto tokenizer = load(json);
  //                           0123456789
  const std::string text = "hi \xC3\xA9  <m>hi\xFF";
  const Encoding e = tokenizer->encode_with_offsets(text, SpecialText::parse, AddSpecial::tokenizer);
  // bos; " hi" with a space that is not in the text; " " and "é"; the token with the spaces before it; " hi";
  // the three bytes of U+FFFD, each of which stands for the broken byte; eos
  EXPECT_EQ(e.ids, (Ids{259, 257, ' ', 258, 260, 257, 0xEF, 0xBF, 0xBD, 259}));
  EXPECT_EQ(e.begin, (std::vector<std::uint32_t>{0, 0, 2, 3, 5, 10, 12, 12, 12, 13}));
  EXPECT_EQ(e.end, (std::vector<std::uint32_t>{0, 2, 3, 5, 10, 12, 13, 13, 13, 13}));
}

TEST(TokenizerThreads, GiveTheSameIdsTogetherAndAlone) {
  test::Merges merges = {{"t", "h"}, {"th", "e"}, {test::letter(' '), "the"}};
  const auto tokenizer = load(test::toy_json(merges));
  std::vector<std::string> texts(400);
  std::vector<Ids> alone;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) texts[i] += (k * i) % 7 ? " the" : "th" + std::to_string(k * i);
    alone.push_back(encode(*tokenizer, texts[i]));
  }
  EXPECT_EQ(encode_batch(*tokenizer, texts, SpecialText::parse, AddSpecial::none), alone);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < texts.size(); ++i) wrong[t] += encode(*tokenizer, texts[i]) != alone[i];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace sonde
