#include "apps/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <iterator>

namespace sonde {

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) != 0), start_(Clock::now()), last_(start_) {}

double ProgressLine::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

bool ProgressLine::due(bool done) {
  const auto now = Clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10000);
  if (now - last_ < pause && !(done && printed_)) return false;
  last_ = now;
  return printed_ = true;
}

void ProgressLine::show(std::string_view text, bool done) {
  if (!due(done)) return;
  fmt::print(stderr, "{}{}{}", terminal_ ? "\r" : "", text, terminal_ ? "\033[K" : "\n");
  std::fflush(stderr);
}

void ProgressLine::operator()(const Progress& progress) {
  const double elapsed = seconds(), rate = static_cast<double>(progress.tokens_done) / elapsed;
  const double left = static_cast<double>(progress.tokens_total - progress.tokens_done) / rate;
  const double fraction =
      static_cast<double>(progress.tokens_done) / static_cast<double>(progress.tokens_total);
  const std::string store = progress.bytes_written == 0
                                ? ""
                                : fmt::format("  {:.3f} GB/s to the store",
                                              static_cast<double>(progress.bytes_written) / elapsed * 1e-9);
  show(fmt::format("{:5.1f} %  {} of {} tokens  {:.0f} tok/s{}  {} left", 100 * fraction,
                   progress.tokens_done, progress.tokens_total, rate, store, human_seconds(left)),
       progress.tokens_done >= progress.tokens_total);
}

void ProgressLine::finish() {
  if (terminal_ && printed_) std::fputs("\n", stderr);
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  std::size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < std::size(units)) bytes /= 1000, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, units[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.0f} s", seconds);
  if (seconds < 3600)
    return fmt::format("{:.0f} min {:02.0f} s", std::floor(seconds / 60), std::fmod(seconds, 60));
  return fmt::format("{:.0f} h {:02.0f} min", std::floor(seconds / 3600),
                     std::floor(std::fmod(seconds, 3600) / 60));
}

}  // namespace sonde
