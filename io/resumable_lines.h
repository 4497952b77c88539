// Lines of a long job: kept as they come in OUT.partial, and OUT when all are there. A killed job finds its
// lines again, if it is the same job.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

class ResumableLines {
 public:
  // `identity`: a hash of all that decides the lines, kept in OUT.partial.identity. Lines of another job, or
  // of one that still runs, are an Error.
  ResumableLines(std::filesystem::path out, std::string identity);
  ResumableLines(const ResumableLines&) = delete;
  ResumableLines& operator=(const ResumableLines&) = delete;
  ~ResumableLines();

  // There already: the caller goes on behind them.
  const std::vector<std::string>& found() const { return found_; }
  void append(std::string_view line);  // without its end
  void flush();                        // what was appended outlives a kill
  void finish();                       // OUT appears

 private:
  std::filesystem::path out_, partial_, identity_path_;
  bool direct_ = false;  // OUT is a device or a pipe: lines go straight to it
  int fd_ = -1;
  std::vector<std::string> found_;
  std::string buffer_;
};

}  // namespace sonde
