// Random models of every family: what the oracle runs, and the same model as a Hugging Face folder and as the
// GGUF file that llama.cpp's converter writes. The names and rules here are the files' own, not read from the
// product.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "tests/models/gguf_file.h"
#include "tests/models/model_folder.h"
#include "tests/oracle/decoder_forward.h"

namespace sonde::test {

enum class ExpertFiles { one_by_one, stacked };  // how a Hugging Face folder holds a layer's experts

struct Values {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

struct RandomDecoder {
  std::string family;
  oracle::Decoder spec;
  Json config;                      // of the Hugging Face folder
  std::map<std::string, Values> w;  // by the oracle's names; norms as they multiply
  bool qkv_bias = false, out_bias = false, mlp_bias = false, tied = false;
  std::vector<double> rope_divisors;  // llama3's rule as GGUF holds it

  oracle::Weights oracle_weights() const;
  void write_folder(const std::filesystem::path& folder, ExpertFiles = ExpertFiles::one_by_one) const;
  bool has_gguf() const;  // llama.cpp writes this family with these options
  GgufFile gguf(bool old_expert_names = false) const;
};

const std::vector<std::string>& decoder_families();
RandomDecoder draw_decoder(const std::string& family, unsigned seed);

}  // namespace sonde::test
