// Every field of every golden line: ids, ids with special tokens, plain ids, decoded text.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "io/tokenizer/tokenizer.h"
#include "tests/io/tokenizer_files.h"

namespace sonde {
namespace {

using Ids = std::vector<std::int32_t>;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}
std::string bytes_of(const Json& row, const std::string& field) {
  return row.contains(field) ? row[field].get<std::string>() : from_hex(row.at(field + "_hex"));
}
bool has(const Json& row, const std::string& field) {
  return row.contains(field) || row.contains(field + "_hex");
}

Ids encode(const Tokenizer& tokenizer, const std::string& text, SpecialText special, AddSpecial add) {
  Ids ids;
  tokenizer.encode(text, special, add, ids);
  // The other way to the same ids, with bytes that lie in the text and never go back.
  const Encoding encoding = tokenizer.encode_with_offsets(text, special, add);
  EXPECT_EQ(encoding.ids, ids);
  std::uint32_t last = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_LE(encoding.begin[i], encoding.end[i]);
    EXPECT_LE(encoding.end[i], text.size());
    EXPECT_GE(encoding.begin[i], last);
    last = encoding.begin[i];
  }
  return ids;
}

// Fields that hf_differs.jsonl names replace those of ids.jsonl.
void check_lines(const Tokenizer& tokenizer, const std::filesystem::path& folder, bool hugging_face_differs) {
  std::map<std::string, std::string> texts;
  for (const Json& line : test::read_jsonl(folder / ".." / "lines.jsonl")) texts[line["id"]] = line["text"];
  std::map<std::string, Json> differs;
  if (hugging_face_differs)
    for (const Json& row : test::read_jsonl(folder / "hf_differs.jsonl")) differs[row["id"]] = row;

  std::size_t rows = 0;
  for (Json row : test::read_jsonl(folder / "ids.jsonl")) {
    ++rows;
    const std::string id = row["id"];
    SCOPED_TRACE(folder.filename().string() + " " + id);
    if (const auto other = differs.find(id); other != differs.end())
      for (const auto& [field, value] : other->second.items()) {
        row.erase(field + "_hex");
        row[field] = value;
        if (field != "ids") continue;
        Ids with_special;
        tokenizer.encode("", SpecialText::parse, AddSpecial::tokenizer, with_special);  // a bos or nothing
        for (const std::int32_t token : value) with_special.push_back(token);
        row["ids_with_special"] = with_special;
      }
    const std::string& text = texts.at(id);
    const Ids with_special = row["ids_with_special"].get<Ids>();
    EXPECT_EQ(encode(tokenizer, text, SpecialText::parse, AddSpecial::none), row["ids"].get<Ids>());
    EXPECT_EQ(encode(tokenizer, text, SpecialText::parse, AddSpecial::tokenizer), with_special);
    const Ids plain = row.value("ids_plain", row["ids"]).get<Ids>();
    EXPECT_EQ(encode(tokenizer, text, SpecialText::plain, AddSpecial::none), plain);
    const std::string decoded = bytes_of(row, "decoded");
    EXPECT_EQ(tokenizer.decode(row["ids"].get<Ids>(), false), decoded);
    // Which tokens are special is not told again for rows that differ.
    if (differs.count(id) > 0) continue;
    EXPECT_EQ(tokenizer.decode(with_special, true),
              has(row, "decoded_skip_special") ? bytes_of(row, "decoded_skip_special") : decoded);
  }
  EXPECT_EQ(rows, 752u);
}

void check_decoding(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  std::size_t rows = 0;
  for (const Json& row : test::read_jsonl(folder / "decode.jsonl")) {
    SCOPED_TRACE(folder.filename().string() + " decode row " + std::to_string(rows));
    const Ids ids = row["ids"].get<Ids>();
    const std::string decoded = bytes_of(row, "decoded");
    EXPECT_EQ(tokenizer.decode(ids, false), decoded);
    EXPECT_EQ(tokenizer.decode(ids, true),
              has(row, "decoded_skip_special") ? bytes_of(row, "decoded_skip_special") : decoded);
    ++rows;
  }
  EXPECT_EQ(rows, 40u);
}

// Broken UTF-8 gives the ids of the text with U+FFFD in its place.
void check_broken_text(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  std::size_t with_ids = 0;
  for (const Json& row : test::read_jsonl(folder / ".." / "invalid_utf8.jsonl")) {
    SCOPED_TRACE(row["hex"].get<std::string>());
    const std::string broken = from_hex(row["hex"]);
    const Ids ids = encode(tokenizer, broken, SpecialText::parse, AddSpecial::none);
    EXPECT_EQ(ids, encode(tokenizer, row["replaced"], SpecialText::parse, AddSpecial::none));
    const auto expected = row["ids"].find(folder.filename().string());
    if (expected == row["ids"].end()) continue;
    EXPECT_EQ(ids, expected->get<Ids>());
    ++with_ids;
  }
  const std::set<std::string> listed = {"bl_gpt2",  "bl_qwen2", "spm_llama2", "uni_t5",
                                        "gguf_spm", "smollm2",  "gemma3"};
  EXPECT_EQ(with_ids, listed.count(folder.filename().string()) ? 14u : 0u);
}

void check_all(const Tokenizer& tokenizer, const std::filesystem::path& folder,
               bool hugging_face_differs = false) {
  check_lines(tokenizer, folder, hugging_face_differs);
  if (!hugging_face_differs) check_decoding(tokenizer, folder);
  check_broken_text(tokenizer, folder);
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, EveryField) {
  SONDE_REQUIRE_SHARED("golden/tokenizers");
  const auto folder = shared_path / GetParam();
  const auto gguf = folder / "vocab.gguf";
  const auto tokenizer = load_tokenizer(std::filesystem::exists(gguf) ? gguf : folder);
  const Json index = read_json(shared_path / "index.json");
  EXPECT_EQ(tokenizer->vocab_size(), index["tokenizers"][GetParam()]["vocab"].get<std::int64_t>());
  check_all(*tokenizer, folder);
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden,
                         testing::Values("bl_gpt2", "bl_roberta", "bl_llama3", "bl_qwen2", "bl_o200k",
                                         "bl_neox", "spm_llama2", "spm_mistral", "spm_gemma", "uni_t5",
                                         "uni_xlmr", "gpt2", "mistral-v03", "gguf_gpt2", "gguf_llama3",
                                         "gguf_qwen2", "gguf_o200k", "gguf_spm", "gguf_spm_noprefix",
                                         "gguf_ugm"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(TokenizerGoldenSmolLM2, Gguf) {
  SONDE_REQUIRE_SHARED("golden/tokenizers");
  const auto gguf = test::smollm2_gguf();
  if (gguf.empty()) GTEST_SKIP() << "the default model is not in the cache (set SONDE_SMOLLM2_GGUF)";
  const auto tokenizer = load_tokenizer(gguf);
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  check_all(*tokenizer, shared_path / "smollm2");
}

TEST(TokenizerGoldenSmolLM2, TokenizerJson) {
  SONDE_REQUIRE_SHARED("golden/tokenizers");
  const auto gguf = test::smollm2_gguf();
  if (gguf.empty()) GTEST_SKIP() << "the default model is not in the cache (set SONDE_SMOLLM2_GGUF)";
  const test::TemporaryFolder folder;
  const auto file = folder.write(
      "tokenizer.json", test::assemble_smollm2_json(shared_path / "smollm2" / "tokenizer_fields.json", gguf));
  check_all(*load_tokenizer(file), shared_path / "smollm2", true);
}

TEST(TokenizerGoldenGemma3, Gguf) {
  SONDE_REQUIRE_SHARED("golden/tokenizers");
  const auto gguf = test::gemma3_gguf();
  if (gguf.empty()) GTEST_SKIP() << "Gemma 3 is not in the cache (scripts/get_model.sh gemma3-270m)";
  const auto tokenizer = load_tokenizer(gguf);
  EXPECT_EQ(tokenizer->vocab_size(), 262144);
  check_all(*tokenizer, shared_path / "gemma3");
}

TEST(TokenizerGoldenGemma3, TokenizerJson) {
  SONDE_REQUIRE_SHARED("golden/tokenizers");
  const auto gguf = test::gemma3_gguf();
  if (gguf.empty()) GTEST_SKIP() << "Gemma 3 is not in the cache (scripts/get_model.sh gemma3-270m)";
  const test::TemporaryFolder folder;
  const auto file = folder.write(
      "tokenizer.json", test::assemble_gemma3_json(shared_path / "gemma3" / "tokenizer_fields.json", gguf));
  check_all(*load_tokenizer(file), shared_path / "gemma3", true);
}

}  // namespace
}  // namespace sonde
