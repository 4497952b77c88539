#include "io/text_reader.h"

#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 18;

class PlainFile : public ByteSource {
 public:
  explicit PlainFile(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) fail("{}: is a folder, expected a file of text", name_);
    file_.reset(std::fopen(name_.c_str(), "rb"));
    if (!file_) fail("{}: cannot be opened: {}", name_, std::strerror(errno));
  }

  std::size_t read(char* out, std::size_t capacity) override {
    const std::size_t n = std::fread(out, 1, capacity, file_.get());
    if (n < capacity && std::ferror(file_.get())) fail("{}: cannot be read: {}", name_, std::strerror(errno));
    return n;
  }

  const std::string& name() const { return name_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string name_;
  std::unique_ptr<std::FILE, Close> file_;
};

// Compressed bytes of a file, refilled by blocks.
class CompressedInput {
 public:
  explicit CompressedInput(const std::filesystem::path& path) : file_(path), block_(kBlock) {}

  bool fill() {  // false at the end of the file
    size_ = file_.read(block_.data(), block_.size());
    packed_ += size_;
    return size_ > 0;
  }
  char* data() { return block_.data(); }
  std::size_t size() const { return size_; }
  // Text packs 3 to 20 times; what grows far more is a bomb that would fill the memory.
  void expect_text(std::size_t unpacked) {
    constexpr std::uint64_t kAlways = std::uint64_t{16} << 20, kPerByte = 256;
    unpacked_ += unpacked;
    if (unpacked_ > kAlways + kPerByte * packed_)
      fail_hint(
          "decompress it yourself if it is what it says, and give the result",
          "{}: found more than {} bytes in the first {} of the compressed file, expected at most {} for each",
          file_.name(), unpacked_, packed_, kPerByte);
  }
  [[noreturn]] void damaged(const char* format, const char* why) const {
    fail_hint("copy or compress the file again", "{}: damaged {} stream: {}", file_.name(), format, why);
  }

 private:
  PlainFile file_;
  std::vector<char> block_;
  std::size_t size_ = 0;
  std::uint64_t packed_ = 0, unpacked_ = 0;
};

class GzipFile : public ByteSource {
 public:
  explicit GzipFile(const std::filesystem::path& path) : input_(path) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK)
      fail("{}: zlib cannot start", path.string());  // 16: gzip only
  }
  ~GzipFile() override { inflateEnd(&stream_); }
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  std::size_t read(char* out, std::size_t capacity) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min(capacity, kBlock));
    const uInt room = stream_.avail_out;
    while (stream_.avail_out == room) {
      if (stream_.avail_in == 0 && !refill()) return 0;
      if (between_members_) inflateReset(&stream_);
      between_members_ = false;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      if (status == Z_STREAM_END)
        between_members_ = true;
      else if (status != Z_OK && status != Z_BUF_ERROR)
        input_.damaged("gzip", stream_.msg ? stream_.msg : "not gzip data");
    }
    input_.expect_text(room - stream_.avail_out);
    return room - stream_.avail_out;
  }

 private:
  bool refill() {  // false where the file may end
    if (!input_.fill()) {
      if (between_members_) return false;
      input_.damaged("gzip", "the file ends inside it");
    }
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(input_.size());
    return true;
  }

  CompressedInput input_;
  z_stream stream_{};
  bool between_members_ = false;  // an empty file is no gzip file
};

class ZstdFile : public ByteSource {
 public:
  explicit ZstdFile(const std::filesystem::path& path) : input_(path), stream_(ZSTD_createDStream()) {
    if (!stream_) fail("{}: zstd cannot start", path.string());
  }

  std::size_t read(char* out, std::size_t capacity) override {
    ZSTD_outBuffer target{out, capacity, 0};
    while (target.pos == 0) {
      if (in_.pos == in_.size && !more_output_ && !refill()) return 0;
      const std::size_t left = ZSTD_decompressStream(stream_.get(), &target, &in_);
      if (ZSTD_isError(left)) input_.damaged("zstd", ZSTD_getErrorName(left));
      between_frames_ = left == 0;
      more_output_ =
          target.pos == target.size && !between_frames_;  // a full buffer may hide more of the same input
    }
    input_.expect_text(target.pos);
    return target.pos;
  }

 private:
  bool refill() {  // false where the file may end
    if (!input_.fill()) {
      if (between_frames_) return false;
      input_.damaged("zstd", "the file ends inside it");
    }
    in_ = {input_.data(), input_.size(), 0};
    return true;
  }

  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  CompressedInput input_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool between_frames_ = false;  // an empty file is no zstd file
  bool more_output_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_text(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".gz") return std::make_unique<GzipFile>(path);
  if (extension == ".zst") return std::make_unique<ZstdFile>(path);
  return std::make_unique<PlainFile>(path);
}

LineReader::LineReader(const std::filesystem::path& path)
    : file_(path.string()), source_(open_text(path)), buffer_(kBlock) {
  while (end_ < 3 && fill()) {}
  const std::string_view start(buffer_.data(), end_);
  if (start.starts_with("\xEF\xBB\xBF")) begin_ = 3;
  if (start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF"))
    fail_hint("convert it: iconv -f UTF-16 -t UTF-8", "{}: found UTF-16 text, expected UTF-8", file_);
}

bool LineReader::fill() {
  if (exhausted_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());  // a line longer than the buffer
  const std::size_t n = source_->read(buffer_.data() + end_, buffer_.size() - end_);
  end_ += n;
  exhausted_ = n == 0;
  return n > 0;
}

bool LineReader::next(std::string_view& line) {
  std::size_t searched = 0;  // bytes behind begin_ known to hold no '\n'
  while (true) {
    const char* start = buffer_.data() + begin_;
    const std::size_t n = end_ - begin_;
    if (const void* found = n > searched ? std::memchr(start + searched, '\n', n - searched) : nullptr) {
      line = {start, static_cast<std::size_t>(static_cast<const char*>(found) - start)};
      begin_ += line.size() + 1;
      return ++line_, true;
    }
    searched = n;
    if (fill()) continue;
    if (n == 0) return false;
    line = {buffer_.data() + begin_, n};  // the last line, without '\n'
    begin_ = end_;
    return ++line_, true;
  }
}

std::string LineReader::where(std::int64_t line) const { return fmt::format("{} line {}", file_, line); }

}  // namespace sonde
