// Any text through good tokenizers: ids and offsets agree, and tokenizer.json's byte-level BPE gives the text
// back.
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/utf8.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/toy_tokenizers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const auto tokenizers = fuzz::toy_tokenizers();
  const fuzz::Input input(data, size, tokenizers.size());
  return fuzz::refuse_or_read([&] {
    const Tokenizer& tokenizer = *tokenizers[input.choice];
    const Encoding e = tokenizer.encode_with_offsets(input.bytes, SpecialText::plain, AddSpecial::none);
    std::vector<std::int32_t> ids;
    tokenizer.encode(input.bytes, SpecialText::plain, AddSpecial::none, ids);
    if (ids != e.ids) __builtin_trap();
    for (std::size_t i = 0; i < e.ids.size(); ++i)
      if (e.begin[i] > e.end[i] || e.end[i] > input.bytes.size()) __builtin_trap();
    // Added tokens swallow spaces, and llama.cpp takes some out when it decodes: the others give all back.
    const bool keeps_all = input.choice < 2 && input.bytes.find('<') == std::string::npos;
    if (keeps_all && valid_utf8_prefix(input.bytes) == input.bytes.size() &&
        tokenizer.decode(ids, false) != input.bytes)
      __builtin_trap();
  });
}
