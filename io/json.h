// JSON with the limits a hostile file needs: nesting at most 64 deep, duplicate keys refused, errors that
// name the source. nlohmann-json lives behind this header; key order is kept. Looking a key up walks the
// object (a vector of pairs): iterate over large ones such as a vocabulary.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace sonde {

using Json = nlohmann::ordered_json;

// Parses text; `source` (a path, "line 7 of x.jsonl") opens every error message.
Json parse_json(std::string_view text, std::string_view source);
Json read_json(const std::filesystem::path& path);

// Writes atomically: temporary name, fsync, rename, fsync of the directory.
void write_json(const std::filesystem::path& path, const Json& json);

}  // namespace sonde
