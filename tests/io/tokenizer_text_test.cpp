// UTF-8 repair, character classes, and llama.cpp's clean-up of spaces.
#include <gtest/gtest.h>

#include "io/json.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/decoder.h"
#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

TEST(Utf8, ReplacesMaximalSubparts) {
  // Unicode 15, tables 3-8 to 3-11, and what Python's errors="replace" gives.
  const struct {
    const char* bytes;
    const char* repaired;
  } cases[] = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "\uFFFD\uFFFD\uFFFD\uFFFDA"},
      {"eight ASCII bytes and \xC3\xA9, then \xC3", "eight ASCII bytes and \u00E9, then \uFFFD"},
      {"", ""},
  };
  for (const auto& [bytes, repaired] : cases) {
    std::vector<Span> spans;
    EXPECT_EQ(replace_invalid_utf8(bytes, &spans), repaired);
    EXPECT_EQ(spans.size(), std::string_view(repaired).size());
    EXPECT_EQ(replace_invalid_utf8(repaired), repaired);
    EXPECT_EQ(count_invalid_utf8(repaired), 0);
  }
  EXPECT_EQ(count_invalid_utf8("a\xFF\xFE"
                               "b\xE2\x82"),
            3);
  std::vector<Span> spans;
  replace_invalid_utf8("a\xE2\x82z", &spans);  // a, U+FFFD for two bytes, z
  ASSERT_EQ(spans.size(), 5u);
  EXPECT_EQ(spans[1].begin, 1u);
  EXPECT_EQ(spans[3].end, 3u);
  EXPECT_EQ(spans[4].begin, 3u);
}

TEST(Utf8, EveryCodePointComesBack) {
  for (char32_t c = 0; c <= 0x10FFFF; c = c == 0xD7FF ? 0xE000 : c + 1) {
    std::string text;
    append_utf8(text, c);
    ASSERT_EQ(valid_utf8_prefix(text), text.size());
    const CodePoint back = code_point_at(text.data());
    ASSERT_EQ(back.value, c);
    ASSERT_EQ(back.bytes, text.size());
    ASSERT_EQ(previous_code_point(text.data(), back.bytes), 0u);
  }
}

TEST(ByteAlphabet, IsOneToOne) {
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t letter = letter_of_byte(static_cast<unsigned char>(byte));
    EXPECT_EQ(byte_of_letter(letter), static_cast<unsigned char>(byte));
    std::string text;
    append_utf8(text, letter);
    EXPECT_EQ(bytes_of_token(text), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(letter_of_byte(' '), U'\u0120');
  EXPECT_EQ(letter_of_byte('\n'), U'\u010A');
  EXPECT_EQ(letter_of_byte(0xAD), U'\u0143');
  EXPECT_FALSE(byte_of_letter(U' '));
  EXPECT_FALSE(byte_of_letter(U'\u0144'));
}

// The generated table against the classes as probed in the libraries.
TEST(UnicodeClasses, EqualTheProbedOnes) {
  SONDE_REQUIRE_SHARED("golden/tokenizers/classes.json");
  const Json probed = read_json(shared_path)["classes"];
  const struct {
    const char* name;
    const CharClasses& classes;
    CharClass bit;
  } cases[] = {
      {"hf_regex_\\p{L}", CharClasses::hugging_face(), kLetter},
      {"hf_regex_\\p{N}", CharClasses::hugging_face(), kNumber},
      {"hf_regex_\\s", CharClasses::hugging_face(), kSpace},
      {"hf_digits", CharClasses::hugging_face(), kDigit},
      {"llama_L", CharClasses::llama_cpp(), kLetter},
      {"llama_N", CharClasses::llama_cpp(), kNumber},
      {"llama_s", CharClasses::llama_cpp(), kSpace},
      {"llama_N", CharClasses::llama_cpp(), kDigit},
  };
  for (const auto& test : cases) {
    std::vector<bool> expected(0x110000);
    const std::string ranges = probed[test.name];
    for (std::size_t at = 0; at < ranges.size();) {
      const std::size_t comma = std::min(ranges.find(',', at), ranges.size());
      const std::string range = ranges.substr(at, comma - at);
      const std::size_t dash = range.find('-');
      const unsigned long first = std::stoul(range, nullptr, 16);
      const unsigned long last = dash == range.npos ? first : std::stoul(range.substr(dash + 1), nullptr, 16);
      for (unsigned long c = first; c <= last; ++c) expected[c] = true;
      at = comma + 1;
    }
    for (char32_t c = 0; c <= 0x10FFFF; ++c)
      ASSERT_EQ((test.classes.of(c) & test.bit) != 0, expected[c]) << test.name << " U+" << std::hex << +c;
  }
}

TEST(LlamaCppDecoder, CleansSpacesInThreePasses) {
  const struct {
    const char* text;
    const char* cleaned;
  } cases[] = {
      {"a ?b !c .d ,e", "a?b!c.d,e"},
      {"a  ? b", "a ? b"},
      {" ?", "?"},
      {"a ' b", "a'b"},
      {"a ' ' b", "a'' b"},
      {"it 's I 'm we 're you 've", "it's I'm we're you've"},
      {"he 'd they 'll don 't", "he 'd they 'll don 't"},
      {"a 're b 'r", "a're b 'r"},
      {"a '", "a '"},
      {"", ""},
  };
  for (const auto& [text, cleaned] : cases) {
    std::vector<DecodedToken> tokens(1);
    tokens[0].bytes = text;
    const std::int32_t id = 0;
    EXPECT_EQ(make_llama_cpp_decoder(tokens, {true, false, -1, -1})->decode({&id, 1}, false), cleaned);
    EXPECT_EQ(make_llama_cpp_decoder(tokens, {false, false, -1, -1})->decode({&id, 1}, false), text);
  }
}

TEST(LlamaCppDecoder, TakesOffWhatItAdds) {
  const std::vector<DecodedToken> tokens = {{"<s>", false}, {"a", false}, {"</s>", true}};
  const auto decoder = make_llama_cpp_decoder(
      tokens, {.clean_spaces = false, .drop_first_space = false, .added_bos = 0, .added_eos = -1});
  const std::vector<std::int32_t> ids = {0, 0, 1, 2};
  EXPECT_EQ(decoder->decode(ids, true), "<s>a");  // one bos; eos is special and goes anyway
  EXPECT_EQ(decoder->decode(ids, false), "<s><s>a</s>");

  // add_space_prefix: the first token loses a space, unless a bos stood before it.
  const auto prefixed = make_llama_cpp_decoder(
      {{"<s>", true}, {"  a", false}},
      {.clean_spaces = false, .drop_first_space = true, .added_bos = 0, .added_eos = -1});
  EXPECT_EQ(prefixed->decode(std::vector<std::int32_t>{1, 1}, false), " a  a");
  EXPECT_EQ(prefixed->decode(std::vector<std::int32_t>{0, 1}, false), "<s>  a");
  EXPECT_EQ(prefixed->decode(std::vector<std::int32_t>{0, 1}, true), "  a");
}

}  // namespace
}  // namespace sonde
