#include "models/end_tokens.h"

#include "runtime/error.h"

namespace sonde {
namespace {

// An id, a list of them, or null.
bool read_ids(const Json& config, const std::string& source, std::set<std::int32_t>& ids) {
  const auto at = config.find("eos_token_id");
  if (at == config.end() || at->is_null()) return false;
  const Json list = at->is_array() ? *at : Json::array({*at});
  for (const Json& id : list) {
    if (id == -1) continue;  // none
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > INT32_MAX)
      fail("{}: key eos_token_id: found {}, expected a token id or a list of them", source,
           id.is_structured() ? id.type_name() : id.dump());
    ids.insert(id.get<std::int32_t>());
  }
  return true;
}

}  // namespace

std::set<std::int32_t> end_tokens(const ModelFiles& files) {
  std::set<std::int32_t> ids;
  if (files.format() == ModelFormat::gguf) {
    for (const char* key :
         {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
      if (files.gguf()->has(key)) {
        const std::int64_t id = files.gguf()->integer(key);
        if (id == UINT32_MAX) continue;  // none
        if (id < 0 || id > INT32_MAX)
          fail("{}: key {}: found {}, expected a token id", files.path().string(), key, id);
        ids.insert(static_cast<std::int32_t>(id));
      }
    return ids;
  }
  const std::filesystem::path generation = files.path() / "generation_config.json";
  if (std::filesystem::exists(generation) && read_ids(read_json(generation), generation.string(), ids))
    return ids;
  read_ids(files.config(), (files.path() / "config.json").string(), ids);
  return ids;
}

}  // namespace sonde
