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
  std::vector<std::int32_t> ids;  // prompt and continuation; of a known text also what comes later
  std::size_t prompt_length;
  std::size_t length;          // of ids, those that are there at this step
  std::size_t cached = 0;      // of these, those whose keys and values lie in the cache
  std::int32_t first_row = 0;  // of the cache

  std::span<const std::int32_t> text() const { return std::span(ids).first(length); }
  std::span<const std::int32_t> continuation() const { return text().subspan(prompt_length); }
};

// Sequences that run together, and the batch that they make. There are as many waves as stages of the
// pipeline: while one stage works on the last tokens of one, another works on the next one's.
struct Wave {
  std::vector<std::int32_t> free_slots;  // first rows of the cache
  std::vector<Running> running;

  // The batch: for each of its sequences its place in `running`, and of each selected row the sequence.
  std::vector<std::int32_t> ids, positions, starts, selected, first_rows;
  std::vector<Stretch> stretches;
  std::vector<std::size_t> members, member_of_row;
  std::vector<std::int32_t> next;  // per member: the token chosen; -1 where its text is not read to the end

  void clear_batch() {
    ids.clear(), positions.clear(), selected.clear(), first_rows.clear();
    stretches.clear(), members.clear(), member_of_row.clear();
    starts.assign(1, 0);
  }
};

// Whether keys rotated for a sequence of `before` tokens serve one of `now`.
bool same_rotation(const RopeSpec& rope, std::size_t before, std::size_t now) {
  const auto stretched = [&](std::size_t length) {
    return rope.length_limit() > 0 && static_cast<double>(length) > rope.length_limit();
  };
  if (rope.scaling == RopeScaling::dynamic && stretched(now)) return before == now;
  return stretched(before) == stretched(now);
}

bool any_length_limit(const ModelSpec& spec) {
  return spec.rope.length_limit() > 0 || (spec.local_rope && spec.local_rope->length_limit() > 0);
}

// Whether the edits change a token in the whole text as they do when it is the newest one.
bool same_in_whole_texts(std::span<const Edit> edits) {
  return std::ranges::all_of(edits, [](const Edit& edit) {
    return info(edit.site.hook).shape != RowShape::HS && !edit.tokens.depends_on_length() && !edit.rows;
  });
}

}  // namespace

std::string_view name(StopReason reason) { return kReasons[static_cast<int>(reason)]; }

void check_prompt(const std::string& name, std::span<const std::int32_t> ids, const ModelSpec& spec,
                  const GenerateOptions& options) {
  const std::int64_t context = options.context > 0 ? options.context : spec.context;
  const auto n = static_cast<std::int64_t>(ids.size());
  if (n == 0)
    fail_hint("--bos yes begins an empty text where the tokenizer has such a token",
              "{}: found no tokens, expected at least one", name);
  if (n >= context)
    fail_hint("shorten it, or raise --context up to the model's",
              "{}: found {} tokens, expected fewer than the context of {}", name, n, context);
  for (const std::int32_t id : ids)
    if (id < 0 || id >= spec.vocab)
      fail_hint("were these ids made with another model's tokenizer?",
                "{}: found token id {}, expected 0 to {}", name, id, spec.vocab - 1);
}

void check_edits(std::span<const Edit> edits, const ModelSpec& spec, std::int64_t prompt,
                 const std::string& name, std::int64_t length) {
  for (const std::int64_t now : {length, length + 1})
    check_edits(edits, spec.hook_sizes(), {prompt, name, now, now});
}

struct Generator::State : CaptureSink {
  State(const Model& m, Backend& b, const GenerateOptions& o)
      : model(m), backend(b), options(o), hooks(b, m.spec.n_layers) {
    if (options.context == 0) options.context = model.spec.context;
  }

  void put(Site site, Tensor rows, std::int64_t row0) override;
  bool takes_device_rows() const override { return recorded.empty(); }
  void begin(std::vector<Running> sequences);
  void admit(Wave& wave);
  void build_batch(Wave& wave);
  void forward(Wave& wave);
  void finish_step(Wave& wave, const OnToken& on_token, const OnDone& on_done);
  // The next token of a sequence whose text has been read; whether it ends with it.
  bool step(Running& sequence, std::int32_t chosen, const OnToken& on_token, StopReason& reason);
  void run(std::vector<Running> sequences, const OnToken& on_token, const OnDone& on_done);

  const Model& model;
  Backend& backend;
  GenerateOptions options;
  Hooks hooks;
  std::size_t first_prompt = 0;
  bool edits_same_in_whole_texts = true;
  std::vector<Site> recorded;
  OnRows on_rows;

  std::unique_ptr<Transformer> transformer;
  Buffer k_memory, v_memory;
  KeyCache cache;
  std::int64_t slots = 0, slot_rows = 0;  // of the cache: sequences, and rows of each
  std::deque<Running> waiting;
  std::vector<Wave> waves;
  Wave* computed = nullptr;  // whose rows come to put()
  Buffer logits;             // rows of the host, where tokens are chosen
};

Generator::Generator(const Model& model, Backend& backend, const GenerateOptions& options,
                     std::vector<Edit> edits, std::size_t first_prompt)
    : state_(std::make_unique<State>(model, backend, options)) {
  state_->first_prompt = first_prompt;
  check_sampling(options.sampling);
  state_->edits_same_in_whole_texts = same_in_whole_texts(edits);
  for (Edit& edit : edits) state_->hooks.edit(std::move(edit), model.spec.hook_sizes());
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
  std::vector<Running> sequences;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    check_prompt(fmt::format("prompt {}", i), prompts[i], state_->model.spec, state_->options);
    sequences.push_back({i, prompts[i], prompts[i].size(), prompts[i].size()});
  }
  const Site logits[] = {{Hook::logits}};
  state_->hooks.capture(logits, *state_);
  state_->run(std::move(sequences), on_token, on_done);
}

void Generator::replay(const std::vector<KnownText>& texts, std::size_t first_prompt) {
  State& s = *state_;
  s.first_prompt = first_prompt;
  const bool at_once = s.edits_same_in_whole_texts && !any_length_limit(s.model.spec);
  std::vector<Running> sequences;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    sonde_check(texts[i].prompt_length > 0 && texts[i].ids.size() > texts[i].prompt_length, "text {}", i);
    sequences.push_back({i, texts[i].ids, texts[i].prompt_length,
                         at_once ? texts[i].ids.size() - 1 : texts[i].prompt_length});
  }
  s.run(
      std::move(sequences), [](std::size_t, std::span<const std::int32_t>) { return false; },
      [](std::size_t, const Generated&) {});
}

// Waves take turns. What the last stage has chosen for one comes back when the stages behind this one have
// run it: by then this stage has run as many further waves.
void Generator::State::run(std::vector<Running> sequences, const OnToken& on_token, const OnDone& on_done) {
  begin(std::move(sequences));
  const auto behind = static_cast<std::size_t>(model.stage.behind());
  const auto at_work = [](const Wave& wave) { return !wave.running.empty(); };
  for (std::size_t turn = 0; !waiting.empty() || std::ranges::any_of(waves, at_work); ++turn) {
    Wave& wave = waves[turn % waves.size()];
    admit(wave);
    if (at_work(wave)) {
      build_batch(wave);
      forward(wave);
    }
    if (turn < behind) continue;
    Wave& done = waves[(turn - behind) % waves.size()];
    if (at_work(done)) finish_step(done, on_token, on_done);
  }
}

void Generator::State::finish_step(Wave& wave, const OnToken& on_token, const OnDone& on_done) {
  share_found(model, std::span(wave.next));
  std::vector<std::int32_t> chosen(wave.running.size(), -1);
  for (std::size_t m = 0; m < wave.members.size(); ++m) {
    chosen[wave.members[m]] = wave.next[m];
    wave.running[wave.members[m]].cached += static_cast<std::size_t>(wave.starts[m + 1] - wave.starts[m]);
  }
  std::vector<Running> going;
  for (std::size_t i = 0; i < wave.running.size(); ++i) {
    Running& sequence = wave.running[i];
    StopReason reason = StopReason::max_new;
    if (sequence.cached < sequence.length || !step(sequence, chosen[i], on_token, reason)) {
      going.push_back(std::move(sequence));
      continue;
    }
    wave.free_slots.push_back(sequence.first_row);
    const auto made = sequence.continuation();
    on_done(sequence.prompt, {{made.begin(), made.end()}, reason});
  }
  wave.running = std::move(going);
}

// Allocates for the longest of the sequences, and for as many of them as may run at once.
void Generator::State::begin(std::vector<Running> sequences) {
  const ModelSpec& spec = model.spec;
  std::int64_t longest = 0;
  for (const Running& sequence : sequences) {
    const auto known = static_cast<std::int64_t>(sequence.ids.size());
    const bool known_text = sequence.ids.size() > sequence.prompt_length;
    longest = std::max(longest, known_text ? known : std::min(options.context, known + options.max_new));
  }
  const auto count = std::max<std::int64_t>(1, static_cast<std::int64_t>(sequences.size()));
  slots = std::min(options.sequences, count);
  slot_rows = longest;
  if (const std::int64_t each = cache_bytes(model.stage.part_of(model.shard.part_of(spec)), 1, longest);
      options.cache_limit > 0 && each > 0) {
    slots = std::min(slots, options.cache_limit / each);
    if (slots == 0)
      fail_hint("fewer --max-new, or a smaller --context",
                "keys and values of one sequence of {} tokens take {} bytes, {} are to be had", longest, each,
                options.cache_limit);
  }
  // As many on all ranks, which hold parts of different sizes.
  for (Communicator* ranks : {model.tensor_group, model.stages})
    if (ranks != nullptr) slots = ranks->all_reduce(slots, Reduce::min);
  waiting.assign(std::make_move_iterator(sequences.begin()), std::make_move_iterator(sequences.end()));
  const std::int64_t width = model.shard.kv_heads.size() * spec.d_head, rows = slots * slot_rows;
  const std::int64_t layers = model.stage.layers.size();
  k_memory = backend.allocate(layers * rows * width * 4);
  v_memory = backend.allocate(layers * rows * width * 4);
  cache.k = k_memory.tensor(DType::f32, {layers, rows, width});
  cache.v = v_memory.tensor(DType::f32, {layers, rows, width});
  waves.assign(static_cast<std::size_t>(model.stage.count), {});
  for (std::int64_t i = slots; i-- > 0;)
    waves[static_cast<std::size_t>(i) % waves.size()].free_slots.push_back(
        static_cast<std::int32_t>(i * slot_rows));
  // Texts are read in pieces unless their length decides all angles.
  const std::int64_t read = any_length_limit(spec) ? std::max(options.batch_tokens, longest)
                                                   : std::min(options.batch_tokens, slots * longest);
  transformer = std::make_unique<Transformer>(model, backend, read + slots);
}

void Generator::State::admit(Wave& wave) {
  while (!waiting.empty() && !wave.free_slots.empty()) {
    wave.running.push_back(std::move(waiting.front()));
    waiting.pop_front();
    wave.running.back().first_row = wave.free_slots.back();
    wave.free_slots.pop_back();
  }
}

// What each sequence has not run yet, as far as the batch holds it: one token while decoding.
void Generator::State::build_batch(Wave& wave) {
  wave.clear_batch();
  const bool rows_of_all = static_cast<bool>(on_rows), whole = any_length_limit(model.spec);
  for (std::size_t i = 0; i < wave.running.size(); ++i) {
    Running& sequence = wave.running[i];
    const std::size_t length = sequence.length;
    // Longer sequences may turn their keys by other angles: then the whole sequence is read again.
    if (sequence.cached > 0 &&
        (!same_rotation(model.spec.rope, sequence.cached, length) ||
         (model.spec.local_rope && !same_rotation(*model.spec.local_rope, sequence.cached, length))))
      sequence.cached = 0;
    const auto left = static_cast<std::int64_t>(length - sequence.cached);
    std::int64_t n = left;
    if (const std::int64_t room = options.batch_tokens - static_cast<std::int64_t>(wave.ids.size()); n > 1) {
      if (!whole) n = std::min(n, std::max<std::int64_t>(room, wave.ids.empty() ? 1 : 0));
      if (n == 0 || (n > room && !wave.ids.empty())) continue;
    }
    const std::size_t end = sequence.cached + static_cast<std::size_t>(n);
    for (std::size_t p = sequence.cached; p < end; ++p) {
      if (rows_of_all || p + 1 == length) {
        wave.selected.push_back(static_cast<std::int32_t>(wave.ids.size()));
        wave.member_of_row.push_back(wave.members.size());
      }
      wave.ids.push_back(sequence.ids[p]);
      wave.positions.push_back(static_cast<std::int32_t>(p));
    }
    wave.starts.push_back(static_cast<std::int32_t>(wave.ids.size()));
    wave.stretches.push_back({static_cast<std::int64_t>(first_prompt + sequence.prompt),
                              static_cast<std::int64_t>(sequence.cached), static_cast<std::int64_t>(length)});
    wave.first_rows.push_back(sequence.first_row);
    wave.members.push_back(i);
  }
}

void Generator::State::forward(Wave& wave) {
  wave.next.assign(wave.members.size(), -1);
  computed = &wave;
  cache.first = wave.first_rows;
  const Batch batch{wave.ids, wave.positions, Documents{wave.starts}, wave.selected, wave.stretches, &cache};
  transformer->forward(batch, hooks);
}

void Generator::State::put(Site site, Tensor rows, std::int64_t row0) {
  Wave& wave = *computed;
  const bool wanted = std::ranges::find(recorded, site) != recorded.end();
  std::vector<WantedToken> tokens;
  std::vector<std::size_t> asking;  // members
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    const auto row = static_cast<std::size_t>(row0 + r);
    const std::size_t member = wave.member_of_row[row];
    const Running& sequence = wave.running[wave.members[member]];
    const std::int32_t position = wave.positions[static_cast<std::size_t>(wave.selected[row])];
    if (wanted) on_rows(sequence.prompt, site, position, rows.slice_rows(r, 1));
    const bool newest = static_cast<std::size_t>(position) + 1 == sequence.length;
    if (site.hook != Hook::logits || !newest || sequence.length < sequence.ids.size()) continue;
    tokens.push_back(
        {r, sequence.ids, first_prompt + sequence.prompt, sequence.length - sequence.prompt_length});
    asking.push_back(member);
  }
  if (tokens.empty()) return;
  const auto chosen = next_tokens(backend, backend.on_device(rows, logits), tokens, options.sampling);
  for (std::size_t i = 0; i < chosen.size(); ++i) wave.next[asking[i]] = chosen[i];
}

bool Generator::State::step(Running& sequence, std::int32_t chosen, const OnToken& on_token,
                            StopReason& reason) {
  if (sequence.length < sequence.ids.size()) {  // known: its last token is not read
    ++sequence.length;
    return sequence.length == sequence.ids.size();
  }
  sequence.ids.push_back(chosen);
  ++sequence.length;
  const bool stop = on_token(sequence.prompt, sequence.continuation());
  if (options.end_ids.count(chosen) > 0)
    reason = StopReason::end_token;
  else if (stop)
    reason = StopReason::stop_string;
  else if (static_cast<std::int64_t>(sequence.continuation().size()) >= options.max_new)
    reason = StopReason::max_new;
  else if (static_cast<std::int64_t>(sequence.length) >= options.context)
    reason = StopReason::context;
  else
    return false;
  return true;
}

}  // namespace sonde
