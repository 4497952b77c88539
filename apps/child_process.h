// Runs a program and waits for it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace sonde {

// Output of both kinds goes to `log`. Fails, with the log's last line, unless the exit code is 0; a program
// that is not there is an Error with `hint`.
void run_child(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment,
               const std::filesystem::path& log, const std::string& hint);

std::string own_program();  // this sonde

}  // namespace sonde
