// Whole files: read with clear errors, written so that a reader sees the old file or the new one and never
// half.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sonde {

// Throws an Error for a failed system call: "PATH: cannot ACTION: No space left on device", with a HINT.
[[noreturn]] void fail_errno(const std::filesystem::path& path, std::string_view action, int error);

// The bytes of a regular file; one longer than max_bytes is an Error.
std::string read_file(const std::filesystem::path& path, std::int64_t max_bytes = INT64_MAX);

// /dev/null, /dev/stdout, a named pipe: written as they are, since a rename would put a file in their place.
bool is_device_or_pipe(const std::filesystem::path& path);

// Temporary name beside the target, write, fsync, rename, fsync of the directory.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

// fsync of a directory: makes renames and new files in it survive a power cut.
void sync_directory(const std::filesystem::path& dir);

// Untrusted text for a one-line message: control characters and broken UTF-8 as \xNN, at most `limit`
// characters.
std::string printable(std::string_view text, std::size_t limit = 100);

}  // namespace sonde
