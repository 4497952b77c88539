#include "kernels/cuda/algorithms.h"

#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "runtime/error.h"

namespace sonde::SONDE_GPU {

std::filesystem::path Algorithms::file_of(const std::string& gpu, std::size_t library_version) {
  const auto env = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  std::filesystem::path folder = env("SONDE_CACHE");
  if (folder.empty() && GPU_EMULATED) return {};
  if (folder.empty() && !env("XDG_CACHE_HOME").empty()) folder = env("XDG_CACHE_HOME") / "sonde";
  if (folder.empty() && !env("HOME").empty()) folder = env("HOME") / ".cache/sonde";
  if (folder.empty()) return {};
  std::string name;
  for (const char c : gpu) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  return folder / fmt::format("algorithms-{}-cublaslt-{}.txt", name, library_version);
}

Algorithms::Algorithms(std::filesystem::path file, std::filesystem::path recorded)
    : file_(std::move(file)), recorded_(std::move(recorded)) {
  read(recorded_);
  for (const auto& [shape, code] : codes_) recorded_shapes_.insert(shape);
  read(file_);
}

// A line: the shape's words, a colon, eight numbers in base 16.
void Algorithms::read(const std::filesystem::path& file) {
  std::ifstream lines(file);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::size_t colon = line.find(": ");
    Code code{};
    std::istringstream words(colon == std::string::npos ? "" : line.substr(colon + 2));
    words >> std::hex;
    for (std::uint64_t& word : code) words >> word;
    std::string rest;
    if (words.fail() || words >> rest)
      fail_hint("remove the file: products may then differ in their last bits from before",
                "{}: line {}: found '{}', expected 'shape: 8 numbers'", file.string(), number, line);
    codes_.emplace(line.substr(0, colon), code);  // of two, the first that was written counts
  }
}

namespace {

// One write at the end of the file: lines of several processes do not mix.
void append(std::filesystem::path& file, const std::string& shape, const Algorithms::Code& code) {
  if (file.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  const std::string line = fmt::format("{}: {:x}\n", shape, fmt::join(code, " "));
  const int out = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (out < 0) return;
  if (write(out, line.data(), line.size()) < 0) file.clear();
  close(out);
}

}  // namespace

const Algorithms::Code* Algorithms::find(const std::string& shape) {
  const auto at = codes_.find(shape);
  if (at == codes_.end()) return nullptr;
  if (recorded_shapes_.insert(shape).second) append(recorded_, shape, at->second);
  return &at->second;
}

void Algorithms::add(const std::string& shape, const Code& code) {
  codes_[shape] = code;
  append(file_, shape, code);
  if (recorded_shapes_.insert(shape).second) append(recorded_, shape, code);
}

}  // namespace sonde::SONDE_GPU
