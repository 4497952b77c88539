#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/file_util.h"
#include "io/json.h"
#include "io/mapped_file.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

constexpr std::pair<std::string_view, DType> kDTypes[] = {
    {"F32", DType::f32},     {"F16", DType::f16}, {"BF16", DType::bf16}, {"F64", DType::f64},
    {"I8", DType::i8},       {"U8", DType::u8},   {"I16", DType::i16},   {"U16", DType::u16},
    {"I32", DType::i32},     {"U32", DType::u32}, {"I64", DType::i64},   {"U64", DType::u64},
    {"BOOL", DType::boolean}};

// What the errors of one tensor begin with.
struct Place {
  std::string file, tensor;
  template <class... Args>
  [[noreturn]] void wrong(fmt::format_string<Args...> format, Args&&... args) const {
    fail_hint("the file is damaged: fetch it again", "{}: tensor {}: {}", file, printable(tensor),
              fmt::format(format, std::forward<Args>(args)...));
  }
};

std::uint64_t read_count(const Json& json, const Place& place, std::string_view what) {
  if (!json.is_number_unsigned()) place.wrong("{}: found {}, expected a count", what, json.type_name());
  const auto value = json.get<std::uint64_t>();
  if (value > std::uint64_t{1} << 62) place.wrong("{}: found {}, which no file can hold", what, value);
  return value;
}

DType read_dtype(const Json& entry, const Place& place) {
  const auto at = entry.find("dtype");
  if (at == entry.end() || !at->is_string()) place.wrong("key dtype: found nothing, expected a string");
  const auto text = at->get<std::string>();
  for (const auto& [name, dtype] : kDTypes)
    if (name == text) return dtype;
  place.wrong("key dtype: found '{}', which Sonde does not read", printable(text));
}

// Name, dtype and shape; offsets come out relative to the data section.
SafetensorsTensor read_entry(const std::string& name, const Json& entry, const std::string& file,
                             std::uint64_t data_bytes, std::pair<std::uint64_t, std::uint64_t>& offsets) {
  const Place place{file, name};
  if (!entry.is_object()) place.wrong("found {}, expected an object", entry.type_name());
  SafetensorsTensor tensor;
  tensor.name = name;
  tensor.view.dtype = read_dtype(entry, place);

  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) place.wrong("key shape: expected an array");
  if (shape->size() > tensor.view.shape.size())
    place.wrong("key shape: found {} dimensions, expected at most {}", shape->size(),
                tensor.view.shape.size());
  std::int64_t count = 1;
  for (const Json& dim : *shape) {
    const auto n = static_cast<std::int64_t>(read_count(dim, place, "key shape"));
    if (__builtin_mul_overflow(count, n, &count)) place.wrong("key shape: its product overflows");
    tensor.view.shape[static_cast<std::size_t>(tensor.view.rank++)] = n;
  }
  tensor.view.row_stride = tensor.view.width();

  const auto range = entry.find("data_offsets");
  if (range == entry.end() || !range->is_array() || range->size() != 2)
    place.wrong("key data_offsets: expected [begin, end]");
  offsets = {read_count((*range)[0], place, "key data_offsets"),
             read_count((*range)[1], place, "key data_offsets")};
  if (offsets.first > offsets.second || offsets.second > data_bytes)
    place.wrong("key data_offsets: found [{}, {}], expected an ascending range in {} bytes of data",
                offsets.first, offsets.second, data_bytes);
  std::int64_t expected = 0;
  if (__builtin_mul_overflow(count, info(tensor.view.dtype).block_bytes, &expected))
    place.wrong("key shape: its bytes overflow");
  if (static_cast<std::uint64_t>(expected) != offsets.second - offsets.first)
    place.wrong("found {} bytes, expected {} for {}", offsets.second - offsets.first, expected,
                tensor.view.describe());
  return tensor;
}

}  // namespace

std::shared_ptr<Safetensors> Safetensors::open(const std::filesystem::path& path) {
  auto self = std::make_shared<Safetensors>();
  self->path_ = path;
  self->file_ = MappedFile::open(path);
  const std::string file = path.string();
  const std::uint64_t size = self->file_->size();
  std::uint64_t header_bytes = 0;
  if (size < 8)
    fail_hint("the file is truncated: fetch it again", "{}: found {} bytes, expected a header length of 8",
              file, size);
  std::memcpy(&header_bytes, self->file_->data(), 8);
  if (header_bytes > kMaxHeaderBytes || header_bytes > size - 8)
    fail_hint("the file is truncated, or no safetensors file",
              "{}: header length: found {}, expected at most {}", file, header_bytes,
              std::min(kMaxHeaderBytes, size - 8));

  const char* header = reinterpret_cast<const char*>(self->file_->data()) + 8;
  const Json json = parse_json({header, static_cast<std::size_t>(header_bytes)}, file + ": header");
  if (!json.is_object()) fail("{}: header: found {}, expected an object", file, json.type_name());

  const std::uint64_t data_bytes = size - 8 - header_bytes;
  struct Range {
    std::uint64_t begin, end;
    std::size_t tensor;
  };
  std::vector<Range> ranges;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) fail("{}: __metadata__: found {}, expected an object", file, entry.type_name());
      for (const auto& [key, value] : entry.items())
        if (value.is_string()) self->metadata_[key] = value.get<std::string>();
      continue;
    }
    std::pair<std::uint64_t, std::uint64_t> offsets;
    SafetensorsTensor tensor = read_entry(name, entry, file, data_bytes, offsets);
    tensor.view.data = self->file_->data() + 8 + header_bytes + offsets.first;
    ranges.push_back({offsets.first, offsets.second, self->tensors_.size()});
    self->by_name_.emplace(name, self->tensors_.size());
    self->tensors_.push_back(std::move(tensor));
  }

  // The format allows neither overlap nor holes, so that no byte hides.
  std::ranges::sort(ranges, [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t next = 0;
  for (const Range& range : ranges) {
    if (range.begin != next)
      Place{file, self->tensors_[range.tensor].name}.wrong(
          "data_offsets begin at {}, expected {}: {}", range.begin, next,
          range.begin < next ? "tensors overlap" : "bytes are left out");
    next = range.end;
  }
  if (next != data_bytes)
    fail_hint("the file is damaged: fetch it again", "{}: found {} bytes of data, expected {}", file,
              data_bytes, next);
  return self;
}

const SafetensorsTensor* Safetensors::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

}  // namespace sonde
