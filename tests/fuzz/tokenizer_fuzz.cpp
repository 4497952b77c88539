// A tokenizer.json, or a GGUF's vocabulary: load it, encode some texts, decode what came out.
#include "io/tokenizer/tokenizer.h"

#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const fuzz::Folder folder;
  const auto file = folder.write("tokenizer.json", fuzz::Input(data, size).bytes);
  return fuzz::refuse_or_read([&] {
    const auto tokenizer = load_tokenizer(file);
    for (const char* text :
         {"", "abc abc 123 <s>", " \t\n\n 'll x\u0301\u4e2d\U0001F600 \xff\xc3", "aaaaaaaaaaaaaaaa"})
      for (const SpecialText special : {SpecialText::parse, SpecialText::plain}) {
        const Encoding e = tokenizer->encode_with_offsets(text, special, AddSpecial::tokenizer);
        std::vector<std::int32_t> ids;
        tokenizer->encode(text, special, AddSpecial::tokenizer, ids);
        if (ids != e.ids) __builtin_trap();
        for (std::size_t i = 0; i < e.ids.size(); ++i)
          if (e.begin[i] > e.end[i] || e.end[i] > std::string_view(text).size()) __builtin_trap();
        tokenizer->decode(ids, special == SpecialText::plain);
      }
  });
}
