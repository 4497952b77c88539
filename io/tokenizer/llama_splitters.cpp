#include "io/tokenizer/llama_splitters.h"

#include <functional>
#include <span>

#include "io/file_util.h"
#include "io/tokenizer/split.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using Stages = std::vector<std::unique_ptr<PreTokenizer>>;
const CharClasses& classes() { return CharClasses::llama_cpp(); }

// Pieces of patterns.
#define SONDE_CONTRACTIONS R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))"
#define SONDE_SPACES R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define SONDE_WORDS_AND_SYMBOLS \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)"
#define SONDE_CAPITALS_SMALL(letters, tail)                                                  \
  R"([^\r\n\p{L}\p{N}]?((?=[)" letters R"(])([^a-z]))*((?=[)" letters R"(])([^A-Z]))+)" tail \
  R"(|[^\r\n\p{L}\p{N}]?((?=[)" letters R"(])([^a-z]))+((?=[)" letters R"(])([^A-Z]))*)" tail
#define SONDE_CASED_WORDS                                                                               \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" SONDE_CONTRACTIONS  \
  R"(?)"                                                                                                \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" SONDE_CONTRACTIONS \
  R"(?)"
#define SONDE_SYMBOLS R"(| ?[^\s\p{L}\p{N}]+)"

// A stage each: categories collapsed, or characters as they are.
void collapsed(Stages& stages, const char* pattern) { stages.push_back(make_collapsed_split(pattern)); }
void wide(Stages& stages, const char* pattern) {
  stages.push_back(
      make_regex_split(std::make_unique<Regex>(pattern, Regex::Over::characters, "a pattern of llama.cpp"),
                       SplitBehavior::isolated, false));
}
void gpt2(Stages& stages) { stages.push_back(make_gpt2_splitter(classes())); }
void digits(Stages& stages) { stages.push_back(make_digit_splitter(classes(), DigitRuns::one_by_one)); }
void number_runs(Stages& stages) { stages.push_back(make_digit_splitter(classes(), DigitRuns::together)); }
void llama3(Stages& stages) { stages.push_back(make_llama3_splitter(classes(), 3, LongS::letter)); }
void qwen2(Stages& stages) { stages.push_back(make_llama3_splitter(classes(), 1, LongS::letter)); }
void thousands(Stages& stages) { stages.push_back(make_thousands_splitter()); }

constexpr char kHanAndKana[] = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+";
// Ranges that reach over spaces: these are no members to llama.cpp.
constexpr char kEastAsian[] = "[[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]&&\\S]+";
constexpr char kBloom[] = " ?[^(\\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+";
constexpr char kDeepSeekLetters[] =
    "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-"
    "\u0373"
    "\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-"
    "\u052F"
    "\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77"
    "\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-"
    "\u1F7D"
    "\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-"
    "\u1FF4"
    "\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-"
    "\u2134\u2139"
    "\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-"
    "\uA66D"
    "\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A"
    "\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2"
    "\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943]+";

struct Kind {
  std::vector<std::string_view> names;
  std::function<void(Stages&)> add;
  bool clean_spaces = true, ignore_merges = false, add_bos = false, default_bos = true;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> kinds = {
      {{"default", ""},
       [](Stages& s) {
         collapsed(s, R"([\p{P}\$\+<=>\^~\|]+)"), gpt2(s), number_runs(s), wide(s, "[0-9][0-9][0-9]");
       }},
      {{"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
        "exaone4", "mpt", "olmo", "jais", "jina-v1-en", "jina-v2-code", "roberta-bpe", "modern-bert"},
       gpt2},
      {{"trillion", "granite-docling"}, gpt2, false},
      {{"smollm", "command-r"}, [](Stages& s) { digits(s), gpt2(s); }, false},
      {{"starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"},
       [](Stages& s) { digits(s), gpt2(s); }},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
        "jina-v5-nano"},
       llama3,
       true,
       true,
       true},
      {{"dbrx", "smaug-bpe"}, llama3},
      {{"chatglm-bpe"}, llama3, true, false, false, false},
      {{"glm4", "glm5"}, llama3, true, true, false, false},
      {{"minicpm5"},
       [](Stages& s) {
         collapsed(s, R"(\p{N}{1,3})");
         collapsed(s, SONDE_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+)" SONDE_SYMBOLS
                                         R"([\r\n]*)" SONDE_SPACES);
       },
       true,
       true},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "solar-open", "grok-2"}, qwen2, false},
      {{"stablelm2", "megrez"}, qwen2},
      {{"qwen35"},
       [](Stages& s) {
         collapsed(s, SONDE_CONTRACTIONS
                   R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" SONDE_SPACES);
       },
       false},
      {{"ufakzeka"},
       [](Stages& s) {
         collapsed(s, R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" SONDE_SYMBOLS R"([\r\n]*)" SONDE_SPACES);
       },
       false},
      {{"laguna"}, [](Stages& s) { wide(s, R"([^\n]+|[\n]+)"), qwen2(s); }, false},
      {{"jais-2"},
       [](Stages& s) {
         collapsed(s, SONDE_CONTRACTIONS
                   R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})" SONDE_SYMBOLS
                   R"([\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S))"
                   R"(|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})");
       }},
      {{"deepseek-llm"},
       [](Stages& s) {
         wide(s, R"([\r\n])"), wide(s, kDeepSeekLetters);
         wide(s, "\\s?[[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]&&\\S]+");
         wide(s, R"(\s+\z)"), wide(s, kEastAsian), number_runs(s);
       },
       false},
      {{"deepseek-coder"},
       [](Stages& s) {
         wide(s, R"([\r\n])"), collapsed(s, R"(\s?\p{L}+)"), collapsed(s, R"(\s?\p{P}+)"),
             wide(s, kEastAsian), digits(s);
       },
       false},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
       [](Stages& s) {
         collapsed(s, R"(\p{N}{1,3})"), wide(s, kHanAndKana);
         collapsed(s, SONDE_WORDS_AND_SYMBOLS R"([\r\n]*)" SONDE_SPACES);
       },
       false},
      {{"spark2_5"},
       [](Stages& s) {
         collapsed(s, R"(\p{N}{1,3})"), wide(s, kHanAndKana);
         collapsed(s, SONDE_WORDS_AND_SYMBOLS R"(|[\r\n]|\s+(?!\S)|\s+)"), digits(s);
       },
       false},
      {{"youtu"},
       [](Stages& s) {
         wide(s,
              "[\uAC00-\uD7A3\u3131-\u318E]+|["
              "\uFF01\u2026\u201C\u201D\u2018\u2019\u2014\uFF1A\uFF1B\uFF0C\u3001-\u303F"
              "\uFE30-\uFE4F]+|[\u3105-\u312F]+|[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+");
         collapsed(s, SONDE_CASED_WORDS R"(|\p{N})" SONDE_SYMBOLS R"([\r\n/]*)" SONDE_SPACES);
       },
       false,
       true},
      {{"falcon"},
       [](Stages& s) { collapsed(s, R"([\p{P}\$\+<=>\^~\|`]+)"), gpt2(s), wide(s, "[0-9][0-9][0-9]"); }},
      {{"bloom", "gpt3-finnish"}, [](Stages& s) { wide(s, kBloom); }},
      {{"poro-chat"}, [](Stages& s) { wide(s, kBloom); }, false},
      {{"viking"}, [](Stages& s) { wide(s, kBloom), digits(s); }, false},
      {{"tekken"},
       [](Stages& s) {
         collapsed(s,
                   SONDE_CAPITALS_SMALL(R"(\p{L})", "") R"(|\p{N})" SONDE_SYMBOLS R"([\r\n/]*)" SONDE_SPACES);
       },
       false,
       true,
       true},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
       [](Stages& s) {
         collapsed(s, SONDE_CAPITALS_SMALL(R"(\p{L})", SONDE_CONTRACTIONS "?") R"(|\p{N}{1,3})" SONDE_SYMBOLS
                                                                               R"([\r\n/]*)" SONDE_SPACES);
       },
       false},
      {{"granite-embed-multi-97m"},
       [](Stages& s) {
         collapsed(s, SONDE_CAPITALS_SMALL(R"(\p{L}\p{M})", SONDE_CONTRACTIONS
                                           "?") R"(|\p{N}{1,3})" SONDE_SYMBOLS R"([\r\n/]*)" SONDE_SPACES);
       },
       false,
       true},
      {{"tiny_aya", "cohere2moe"},
       [](Stages& s) {
         thousands(s);
         collapsed(s, SONDE_CASED_WORDS R"(|\p{N}{1,3})" SONDE_SYMBOLS R"([\r\n/]*)" SONDE_SPACES);
       },
       false},
      {{"superbpe"}, [](Stages& s) { number_runs(s), wide(s, R"((?=([0-9]{3})+(?![0-9])))"); }, false},
      {{"bailingmoe", "bailingmoe2", "llada-moe"},
       [](Stages& s) {
         collapsed(
             s, R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" SONDE_SYMBOLS
                R"([\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)");
       },
       false},
      {{"seed-coder"},
       [](Stages& s) {
         collapsed(s, SONDE_CONTRACTIONS
                   R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)" SONDE_SPACES);
       },
       false},
      {{"exaone-moe"},
       [](Stages& s) {
         collapsed(s, SONDE_CONTRACTIONS
                   R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N})" SONDE_SYMBOLS
                   R"([\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)");
       }},
      {{"afmoe"},
       [](Stages& s) {
         thousands(s);
         wide(
             s,
             "[\u4E00-\u9FFF\u3400-\u4DBF\uF900-\uFAFF\u3040-\u309F\u30A0-\u30FF\uFF65-\uFF9F\u2F00-"
             "\u2FDF\u0E40-\u0E7F"
             "\u0E80-\u0EFF\u1780-\u17FF\u1000-\u109F\uAA60-\uAA7F\uA9E0-\uA9FF\uAC00-\uD7AF\u1100-\u11FF]+");
         collapsed(s, SONDE_WORDS_AND_SYMBOLS R"([\r\n]*)" SONDE_SPACES);
       },
       false},
      {{"chameleon"},
       [](Stages& s) {
         wide(s, "<sentinel:[0-9]+>"), wide(s, "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z");
         wide(s, "([\\t\\n]|    |  )"), digits(s), collapsed(s, R"([\p{P}!-/:-@\[-`{-~])"), gpt2(s);
       },
       false,
       false,
       true},
  };
  return kinds;
}

}  // namespace

LlamaPreTokenizer add_llama_splitters(const std::string& name, const std::string& where, Stages& stages) {
  std::string names;
  for (const Kind& kind : kinds())
    for (const std::string_view known : kind.names) {
      if (known != name) {
        if (!known.empty()) names += fmt::format("{}{}", names.empty() ? "" : ", ", known);
        continue;
      }
      kind.add(stages);
      return {name.empty() ? "default" : name, kind.clean_spaces, kind.ignore_merges, kind.add_bos,
              kind.default_bos};
    }
  fail_hint("token ids can be given in place of text: --ids", "{}: found \"{}\", expected one of {}", where,
            printable(name), names);
}

}  // namespace sonde
