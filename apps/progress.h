// Progress of a long job: one line that rewrites itself on a terminal, a plain line every ten seconds in a
// log.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "models/extraction.h"

namespace sonde {

class ProgressLine {
 public:
  ProgressLine();
  void operator()(const Progress& progress);
  void show(std::string_view text, bool done);  // the same with words of the caller's
  void finish();                                // ends the line
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  Clock::time_point start_, last_;
  bool printed_ = false;
  bool due(bool done);
};

std::string human_bytes(double bytes);      // "1.53 GB" (10^9)
std::string human_seconds(double seconds);  // "2 h 03 min"

}  // namespace sonde
