#include "apps/continuations.h"

#include <algorithm>

namespace sonde {

// An embedding may have more rows than the tokenizer has tokens: those have no text.
std::string Continuations::decode(std::span<const std::int32_t> ids) const {
  std::vector<std::int32_t> known(ids.begin(), ids.end());
  std::erase_if(known, [&](std::int32_t id) { return id >= tokenizer_->vocab_size(); });
  return tokenizer_->decode(known, false);
}

// The rest of the whole where joining changes nothing before it: a tokenizer that drops a leading space does
// so at the prompt.
std::string Continuations::text(std::size_t prompt, std::span<const std::int32_t> generated) const {
  if (tokenizer_ == nullptr) return {};
  std::vector<std::int32_t> all = prompts_.tokens[prompt];
  const std::string before = decode(all);
  all.insert(all.end(), generated.begin(), generated.end());
  const std::string whole = decode(all);
  return whole.starts_with(before) ? whole.substr(before.size()) : decode(generated);
}

std::size_t Continuations::stop_at(const std::string& text) const {
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, text.find(stop));
  return first;
}

std::size_t Continuations::settled(const std::string& text) const {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string_view sure = text;
  while (sure.ends_with(kReplacement)) sure.remove_suffix(kReplacement.size());
  std::size_t held = 0;
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, sure.size()); n > held; --n)
      if (sure.ends_with(std::string_view(stop).substr(0, n))) held = n;
  return sure.size() - held;
}

}  // namespace sonde
