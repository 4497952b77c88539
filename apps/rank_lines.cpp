#include "apps/rank_lines.h"

#include "distributed/agreement.h"
#include "io/json.h"

namespace sonde {

RankLines::RankLines(const std::filesystem::path& out, const std::string& identity, Communicator& world) {
  if (world.size() > 1)
    agree(world, "what decides the lines", "sha256 " + identity,
          "give every rank the same command line, texts and tokenizer");
  if (world.rank() == 0) lines_ = std::make_unique<ResumableLines>(out, identity);
  if (lines_) found_ = lines_->found();
  if (world.size() > 1)
    found_ =
        parse_json(world.broadcast_bytes(Json(found_).dump(-1, ' ', false, Json::error_handler_t::replace)),
                   "rank 0's lines")
            .get<std::vector<std::string>>();
}

}  // namespace sonde
