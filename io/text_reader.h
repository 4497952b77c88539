// Lines of a text file, plain or compressed (.gz, .zst; several members or frames one after the other are one
// text).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

// Bytes from somewhere; 0 means the end.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::size_t read(char* out, std::size_t capacity) = 0;
};

// Opens `path`, decompressing by its extension. A stream that is damaged or cut short is an Error, never a
// short text.
std::unique_ptr<ByteSource> open_text(const std::filesystem::path& path);

class LineReader {
 public:
  explicit LineReader(const std::filesystem::path& path);  // drops a UTF-8 byte order mark, refuses UTF-16

  // The next line without its '\n' (a '\r' before it stays); valid until the next call. False at the end: a
  // final
  // '\n' ends the last line and does not open another.
  bool next(std::string_view& line);

  const std::string& file() const { return file_; }
  std::int64_t line() const { return line_; }  // number of the line last returned, from 1
  std::string where(std::int64_t line) const;  // "cities.csv line 12"
  std::string where() const { return where(line_); }

 private:
  bool fill();  // reads more behind end_; false at the end of the source

  std::string file_;
  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // what is not yet returned
  bool exhausted_ = false;
  std::int64_t line_ = 0;
};

}  // namespace sonde
