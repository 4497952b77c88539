// Generation: prompts in, tokens out, many at once. A finished sequence leaves its place to the next prompt
// at once (continuous batching); what a prompt gives never depends on its neighbours.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "models/hooks.h"
#include "models/model.h"
#include "models/sampling.h"
#include "models/transformer.h"

namespace sonde {

struct GenerateOptions {
  SamplingOptions sampling;
  std::int64_t max_new = 64;
  std::set<std::int32_t> end_ids;    // the sequence ends with any of these; empty: none does
  std::int64_t sequences = 16;       // that run at once
  std::int64_t batch_tokens = 2048;  // of a batch that reads prompts
  std::int64_t context = 0;          // tokens of prompt and continuation; 0: the model's
};

enum class StopReason { end_token, stop_string, max_new, context };
std::string_view name(StopReason reason);

struct Generated {
  std::vector<std::int32_t> ids;  // without the prompt, with the end token
  StopReason stop = StopReason::max_new;
};

// Called with every new token; true ends the sequence (a stop string).
using OnToken = std::function<bool(std::size_t prompt, std::span<const std::int32_t> generated)>;
// Called once per prompt, in the order in which they end.
using OnDone = std::function<void(std::size_t prompt, const Generated& generated)>;

class Generator {
 public:
  // `first_prompt`: the number of the first prompt in the whole job, which its draws and edits go by.
  Generator(const Model& model, Backend& backend, const GenerateOptions& options, std::vector<Edit> edits,
            std::size_t first_prompt = 0);
  ~Generator();

  // Further points to record while decoding: rows come with the prompt they belong to and their position.
  // A position may come twice where a sequence is read again (see restart in the .cpp): the later one counts.
  using OnRows = std::function<void(std::size_t prompt, Site site, std::int64_t position, Tensor row)>;
  void capture(std::span<const Site> sites, OnRows on_rows);

  // Prompts of no tokens, or longer than the context, are Errors that name their index.
  void run(const std::vector<std::vector<std::int32_t>>& prompts, const OnToken& on_token,
           const OnDone& on_done);

  // Bytes of keys and values for sequences of up to `longest` tokens.
  static std::int64_t cache_bytes(const ModelSpec& spec, std::int64_t sequences, std::int64_t longest);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sonde
