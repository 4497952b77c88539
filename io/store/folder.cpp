#include "io/store/folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <ctime>
#include <set>
#include <string>

#include "io/file_util.h"
#include "io/store/files.h"
#include "runtime/error.h"

namespace sonde {

using std::filesystem::path;

void check_fresh(const path& dir) {
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with("writer.lock") || name.starts_with("documents.jsonl") ||
                      name.starts_with("shards.jsonl") || name.starts_with("shards.rank-") ||
                      name.starts_with("manifest.json.tmp") || name.starts_with("index.h5") ||
                      name == "shards" || name == "run.log.jsonl" || name == "algorithms.txt";
    if (!ours)
      fail_hint("give --out a new folder", "{}: the folder is not empty and not a store: found {}",
                dir.string(), printable(name));
  }
}

void remove_leftovers(const path& dir, std::span<const ShardRecord> committed) {
  std::set<path> keep;
  for (const ShardRecord& record : committed) keep.insert(dir / record.file);
  for (const auto& entry : std::filesystem::directory_iterator(dir / "shards")) {
    const std::string name = entry.path().filename().string();
    if ((name.starts_with("shard-") || name.starts_with("rows-")) && !keep.contains(dir / "shards" / name))
      std::filesystem::remove(entry.path());
  }
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    const bool temporary = name.find(".json.tmp") != std::string::npos ||
                           name.find(".jsonl.tmp") != std::string::npos || name == "index.h5.tmp";
    if (temporary) std::filesystem::remove(entry.path());
  }
}

void log_run(const path& dir, const char* event, const Json& details) {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  Json line = {{"time", text}, {"host", host_name()}, {"pid", getpid()}, {"event", event}};
  line.update(details);
  File(dir / "run.log.jsonl", O_WRONLY | O_CREAT | O_APPEND).append(line.dump() + "\n");
}

}  // namespace sonde
