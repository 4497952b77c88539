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
  std::int64_t sequences = 16;       // that run at once, or as many as `cache_limit` holds
  std::int64_t batch_tokens = 2048;  // of a batch that reads prompts; longer ones are read in pieces
  std::int64_t context = 0;          // tokens of prompt and continuation; 0: the model's
  std::int64_t cache_limit = 0;      // most bytes of keys and values; 0: no limit
};

enum class StopReason { end_token, stop_string, max_new, context };
std::string_view name(StopReason reason);

struct Generated {
  std::vector<std::int32_t> ids;  // without the prompt, with the end token
  StopReason stop = StopReason::max_new;
};

// A text whose continuation is known.
struct KnownText {
  std::vector<std::int32_t> ids;  // prompt and continuation
  std::size_t prompt_length;
};

// Called with every new token; true ends the sequence (a stop string).
using OnToken = std::function<bool(std::size_t prompt, std::span<const std::int32_t> generated)>;
// Called once per prompt, in the order in which they end.
using OnDone = std::function<void(std::size_t prompt, const Generated& generated)>;

// A prompt that cannot run with these options is an Error that calls it `name`.
void check_prompt(const std::string& name, std::span<const std::int32_t> ids, const ModelSpec& spec,
                  const GenerateOptions& options);
// So are edits that it cannot have: its tokens are chosen anew at every step.
void check_edits(std::span<const Edit> edits, const ModelSpec& spec, std::int64_t prompt,
                 const std::string& name, std::int64_t length);

class Generator {
 public:
  // `first_prompt`: the number of the first prompt in the whole job, which its draws and edits go by.
  Generator(const Model& model, Backend& backend, const GenerateOptions& options, std::vector<Edit> edits,
            std::size_t first_prompt = 0);
  ~Generator();

  // Further points to record while decoding: rows come with the prompt they belong to and their position.
  // A position may come twice where a sequence is read again (models with length-dependent RoPE): the later
  // one counts.
  using OnRows = std::function<void(std::size_t prompt, Site site, std::int64_t position, Tensor row)>;
  void capture(std::span<const Site> sites, OnRows on_rows);

  void run(const std::vector<std::vector<std::int32_t>>& prompts, const OnToken& on_token,
           const OnDone& on_done);
  // The same steps over texts that were generated before, for what they let capture. The last token of a text
  // is never read.
  void replay(const std::vector<KnownText>& texts, std::size_t first_prompt);

  // Bytes of keys and values, of a model or a rank's part of it, for sequences of up to `longest` tokens.
  static std::int64_t cache_bytes(const ModelSpec& spec, std::int64_t sequences, std::int64_t longest);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sonde
