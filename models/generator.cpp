#include "models/generator.h"

#include <algorithm>
#include <deque>
#include <numeric>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::string_view kReasons[] = {"end_token", "stop_string", "max_new", "context"};

// A sequence in the batch.
struct Running {
  std::size_t prompt;
  std::vector<std::int32_t> ids;  // prompt and continuation
  std::size_t prompt_length;
  std::size_t cached = 0;  // of ids, those whose keys and values lie in the cache
  std::int32_t first_row;  // of the cache
};

// Whether keys rotated for a sequence of `before` tokens serve one of `now`.
bool same_rotation(const RopeSpec& rope, std::size_t before, std::size_t now) {
  const auto stretched = [&](std::size_t length) {
    return rope.length_limit() > 0 && static_cast<double>(length) > rope.length_limit();
  };
  if (rope.scaling == RopeScaling::dynamic && stretched(now)) return before == now;
  return stretched(before) == stretched(now);
}

}  // namespace

std::string_view name(StopReason reason) { return kReasons[static_cast<int>(reason)]; }

struct Generator::State : CaptureSink {
  State(const Model& m, Backend& b, const GenerateOptions& o)
      : model(m), backend(b), options(o), hooks(b, m.spec.n_layers) {}

  void put(Site site, Tensor rows, std::int64_t row0) override;
  void begin(const std::vector<std::vector<std::int32_t>>& prompts);
  void admit(const std::vector<std::vector<std::int32_t>>& prompts);
  void build_batch();
  void forward();
  bool finished(Running& sequence, const OnToken& on_token, StopReason& reason);

  const Model& model;
  Backend& backend;
  GenerateOptions options;
  Hooks hooks;
  std::size_t first_prompt = 0;
  std::vector<Site> recorded;
  OnRows on_rows;

  std::unique_ptr<Transformer> transformer;
  Buffer k_memory, v_memory;
  KeyCache cache;
  std::int64_t slot_rows = 0;  // cache rows of a sequence
  std::vector<std::int32_t> free_slots;
  std::deque<std::size_t> waiting;
  std::vector<Running> running;

  // The batch: for each of its sequences its place in `running`, and of each selected row the sequence.
  std::vector<std::int32_t> ids, positions, starts, selected, first_rows;
  std::vector<Stretch> stretches;
  std::vector<std::size_t> members, member_of_row;
  std::vector<std::int32_t> next;  // per member: the token chosen
  std::vector<float> logits;
};

Generator::Generator(const Model& model, Backend& backend, const GenerateOptions& options,
                     std::vector<Edit> edits, std::size_t first_prompt)
    : state_(std::make_unique<State>(model, backend, options)) {
  state_->first_prompt = first_prompt;
  check_sampling(options.sampling);
  for (Edit& edit : edits) state_->hooks.edit(std::move(edit), model.spec.hook_sizes());
  const Site logits[] = {{Hook::logits}};
  state_->hooks.capture(logits, *state_);
  if (state_->options.context == 0) state_->options.context = model.spec.context;
}

Generator::~Generator() = default;

void Generator::capture(std::span<const Site> sites, OnRows on_rows) {
  state_->hooks.capture(sites, *state_);
  state_->recorded.assign(sites.begin(), sites.end());
  state_->on_rows = std::move(on_rows);
}

std::int64_t Generator::cache_bytes(const ModelSpec& spec, std::int64_t sequences, std::int64_t longest) {
  return 2 * spec.n_layers * sequences * longest * spec.n_kv_heads * spec.d_head * 4;
}

void Generator::run(const std::vector<std::vector<std::int32_t>>& prompts, const OnToken& on_token,
                    const OnDone& on_done) {
  State& s = *state_;
  s.begin(prompts);
  while (!s.waiting.empty() || !s.running.empty()) {
    s.admit(prompts);
    s.build_batch();
    s.forward();
    std::vector<Running> going;
    std::vector<bool> ran(s.running.size());
    for (std::size_t m = 0; m < s.members.size(); ++m) {
      s.running[s.members[m]].ids.push_back(s.next[m]);
      ran[s.members[m]] = true;
    }
    for (std::size_t i = 0; i < s.running.size(); ++i) {
      Running& sequence = s.running[i];
      StopReason reason;
      if (ran[i] && s.finished(sequence, on_token, reason)) {
        s.free_slots.push_back(sequence.first_row);
        on_done(sequence.prompt, {{sequence.ids.begin() + static_cast<std::ptrdiff_t>(sequence.prompt_length),
                                   sequence.ids.end()},
                                  reason});
      } else {
        going.push_back(std::move(sequence));
      }
    }
    s.running = std::move(going);
  }
}

// Checks the prompts and allocates for the longest of them.
void Generator::State::begin(const std::vector<std::vector<std::int32_t>>& prompts) {
  const ModelSpec& spec = model.spec;
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto n = static_cast<std::int64_t>(prompts[i].size());
    if (n == 0) fail("prompt {} has no tokens", i);
    if (n >= options.context)
      fail("prompt {}: found {} tokens, expected fewer than the context of {}", i, n, options.context);
    for (const std::int32_t id : prompts[i])
      if (id < 0 || id >= spec.vocab) fail("prompt {}: token id {}, expected 0 to {}", i, id, spec.vocab - 1);
    longest = std::max(longest, std::min(options.context, n + options.max_new));
  }
  waiting.resize(prompts.size());
  std::iota(waiting.begin(), waiting.end(), std::size_t{0});
  const std::int64_t slots =
      std::min(options.sequences, static_cast<std::int64_t>(std::max<std::size_t>(1, prompts.size())));
  slot_rows = longest;
  const std::int64_t width = spec.n_kv_heads * spec.d_head, rows = slots * slot_rows;
  k_memory = backend.allocate(spec.n_layers * rows * width * 4);
  v_memory = backend.allocate(spec.n_layers * rows * width * 4);
  cache.k = k_memory.tensor(DType::f32, {spec.n_layers, rows, width});
  cache.v = v_memory.tensor(DType::f32, {spec.n_layers, rows, width});
  free_slots.clear();
  for (std::int64_t i = slots; i-- > 0;) free_slots.push_back(static_cast<std::int32_t>(i * slot_rows));
  // A batch holds one prompt at least, and next to it a token of every sequence that decodes.
  transformer =
      std::make_unique<Transformer>(model, backend, std::max(options.batch_tokens, longest) + slots);
}

void Generator::State::admit(const std::vector<std::vector<std::int32_t>>& prompts) {
  while (!waiting.empty() && !free_slots.empty()) {
    const std::size_t prompt = waiting.front();
    waiting.pop_front();
    running.push_back({prompt, prompts[prompt], prompts[prompt].size(), 0, free_slots.back()});
    free_slots.pop_back();
  }
}

// What each sequence has not run yet, as far as the batch holds it: one token while decoding.
void Generator::State::build_batch() {
  ids.clear(), positions.clear(), selected.clear(), first_rows.clear();
  stretches.clear(), members.clear(), member_of_row.clear();
  starts.assign(1, 0);
  const bool rows_of_all = static_cast<bool>(on_rows);
  for (std::size_t i = 0; i < running.size(); ++i) {
    Running& sequence = running[i];
    const std::size_t length = sequence.ids.size();
    // Longer sequences may turn their keys by other angles: then the whole sequence is read again.
    if (sequence.cached > 0 &&
        (!same_rotation(model.spec.rope, sequence.cached, length) ||
         (model.spec.local_rope && !same_rotation(*model.spec.local_rope, sequence.cached, length))))
      sequence.cached = 0;
    const std::size_t n = length - sequence.cached;
    if (!ids.empty() && static_cast<std::int64_t>(ids.size() + n) > options.batch_tokens && n > 1) continue;
    for (std::size_t p = sequence.cached; p < length; ++p) {
      if (rows_of_all || p + 1 == length) {
        selected.push_back(static_cast<std::int32_t>(ids.size()));
        member_of_row.push_back(members.size());
      }
      ids.push_back(sequence.ids[p]);
      positions.push_back(static_cast<std::int32_t>(p));
    }
    starts.push_back(static_cast<std::int32_t>(ids.size()));
    stretches.push_back({static_cast<std::int64_t>(first_prompt + sequence.prompt),
                         static_cast<std::int64_t>(sequence.cached), static_cast<std::int64_t>(length)});
    first_rows.push_back(sequence.first_row);
    members.push_back(i);
  }
}

void Generator::State::forward() {
  next.assign(members.size(), -1);
  cache.first = first_rows;
  const Batch batch{ids, positions, Documents{starts}, selected, stretches, &cache};
  transformer->forward(batch, hooks);
  for (const std::size_t i : members) running[i].cached = running[i].ids.size();
}

void Generator::State::put(Site site, Tensor rows, std::int64_t row0) {
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    const auto row = static_cast<std::size_t>(row0 + r);
    const std::size_t member = member_of_row[row];
    const Running& sequence = running[members[member]];
    const std::int32_t position = positions[static_cast<std::size_t>(selected[row])];
    if (std::ranges::find(recorded, site) != recorded.end())
      on_rows(sequence.prompt, site, position, rows.slice_rows(r, 1));
    if (site.hook != Hook::logits || static_cast<std::size_t>(position) + 1 != sequence.ids.size()) continue;
    logits.assign(rows.row(r), rows.row(r) + rows.width());
    next[member] = next_token(logits, sequence.ids, options.sampling, first_prompt + sequence.prompt,
                              sequence.ids.size() - sequence.prompt_length);
  }
}

bool Generator::State::finished(Running& sequence, const OnToken& on_token, StopReason& reason) {
  const std::size_t n = sequence.ids.size() - sequence.prompt_length;
  const bool stop = on_token(sequence.prompt, std::span(sequence.ids).subspan(sequence.prompt_length));
  if (options.end_ids.count(sequence.ids.back()) > 0)
    reason = StopReason::end_token;
  else if (stop)
    reason = StopReason::stop_string;
  else if (static_cast<std::int64_t>(n) >= options.max_new)
    reason = StopReason::max_new;
  else if (static_cast<std::int64_t>(sequence.ids.size()) >= options.context)
    reason = StopReason::context;
  else
    return false;
  return true;
}

}  // namespace sonde
