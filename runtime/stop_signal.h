// A polite end: SIGTERM or SIGUSR1 asks the run to commit what it has and leave with kStoppedExit. A second
// SIGTERM ends it at once.
#pragma once

namespace sonde {

inline constexpr int kStoppedExit = 75;  // "try again later": the same command goes on where this run stopped

void catch_stop_signals();  // from now on; before it the signals end the process, as ever
bool stop_requested();

}  // namespace sonde
