// The last stage of a tokenizer, the way back: token ids to text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sonde {

class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  // Every id lies in the vocabulary.
  virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special) const = 0;
};

// One token as the decoder sees it.
struct DecodedToken {
  std::string bytes;
  bool is_special = false;  // left out by skip_special
  bool is_known = true;     // ids may have gaps
};

// llama.cpp's: raw bytes. With clean_spaces it takes out spaces before some punctuation, over the whole text.
// skip_special also takes off one bos at the start and one eos at the end where the model adds them (-1: it
// does not).
struct LlamaCppDecoding {
  bool clean_spaces = false;
  bool drop_first_space = false;  // of the first token, unless a bos was taken off before it
  std::int32_t added_bos = -1, added_eos = -1;
};
std::unique_ptr<TokenDecoder> make_llama_cpp_decoder(std::vector<DecodedToken> tokens,
                                                     LlamaCppDecoding options);

}  // namespace sonde
