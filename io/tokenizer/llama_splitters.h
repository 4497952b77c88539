// The split patterns of llama.cpp, by the name in tokenizer.ggml.pre.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer/pre_tokenizer.h"

namespace sonde {

// What a name decides beside the split.
struct LlamaPreTokenizer {
  std::string name;
  bool clean_spaces = true, ignore_merges = false, add_bos = false;
  bool default_bos = true;  // token 11 where the file names none
};
// Appends the stages; an unknown name is an Error with the known ones. `where` begins it.
LlamaPreTokenizer add_llama_splitters(const std::string& name, const std::string& where,
                                      std::vector<std::unique_ptr<PreTokenizer>>& stages);

// A pattern over text in which every character is one byte: ASCII as it is, others by their category
// (collapsed_class_of in the implementation), as llama.cpp runs its patterns that name categories.
std::unique_ptr<PreTokenizer> make_collapsed_split(const std::string& pattern);
// Runs of numbers in threes from the right; what stands before one is not cut from its first digits.
std::unique_ptr<PreTokenizer> make_thousands_splitter();

}  // namespace sonde
