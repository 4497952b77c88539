// A store's folder before it is a store, and what killed writers leave in it.
#pragma once

#include <filesystem>
#include <span>

#include "io/store/manifest.h"

namespace sonde {

// A folder without a manifest must be empty, but for what a writer that was killed early leaves: an Error
// otherwise.
void check_fresh(const std::filesystem::path& dir);
// Removes temporary files, and shards that no line of shards.jsonl commits.
void remove_leftovers(const std::filesystem::path& dir, std::span<const ShardRecord> committed);
// Adds a line to run.log.jsonl: time, host, process, `event` and what `details` holds.
void log_run(const std::filesystem::path& dir, const char* event, const Json& details);

}  // namespace sonde
