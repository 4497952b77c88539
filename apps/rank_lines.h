// The lines of a job that several ranks run in step: the first one has the file, all know what it found
// there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "distributed/communicator.h"
#include "io/resumable_lines.h"

namespace sonde {

class RankLines {
 public:
  // Collective. The identity must be the same on all ranks.
  RankLines(const std::filesystem::path& out, const std::string& identity, Communicator& world);

  const std::vector<std::string>& found() const { return found_; }
  void append(std::string_view line) {
    if (lines_) lines_->append(line);
  }
  void flush() {
    if (lines_) lines_->flush();
  }
  void finish() {
    if (lines_) lines_->finish();
  }

 private:
  std::unique_ptr<ResumableLines> lines_;  // of the first rank
  std::vector<std::string> found_;
};

}  // namespace sonde
