#include "apps/child_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/file_util.h"
#include "runtime/error.h"

extern char** environ;

namespace sonde {
namespace {

// What the program said last, blank lines and the launcher's frames left out.
std::string last_words(const std::filesystem::path& log) {
  const std::string text = read_file(log);
  std::string last, error;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    if (line.find_first_not_of(" -\r") != std::string::npos) last = line;
    if (line.find("sonde: ") != std::string::npos && error.empty()) error = line;
    begin = end + 1;
  }
  return printable(error.empty() ? last : error, 500);
}

}  // namespace

void run_child(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment,
               const std::filesystem::path& log, const std::string& hint) {
  std::vector<std::string> variables;
  for (char** v = environ; *v != nullptr; ++v)
    if (const std::string name(*v, std::strcspn(*v, "=")); !environment.contains(name))
      variables.emplace_back(*v);
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  std::vector<char*> arguments, values;
  for (const std::string& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
  for (const std::string& v : variables) values.push_back(const_cast<char*>(v.c_str()));
  arguments.push_back(nullptr);
  values.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t child = 0;
  const int error = posix_spawnp(&child, arguments[0], &files, nullptr, arguments.data(), values.data());
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) fail_hint(hint, "{}: cannot be started: {}", command[0], std::strerror(error));

  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("{}: waiting for it: {}", command[0], std::strerror(errno));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::string line;
  for (const std::string& a : command) line += (line.empty() ? "" : " ") + a;
  fail_hint(fmt::format("its output is in {}", log.string()), "{}: ended with {} {}: {}",
            printable(line, 300), WIFEXITED(status) ? "exit code" : "signal",
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), last_words(log));
}

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

}  // namespace sonde
