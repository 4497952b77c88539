#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "io/file_util.h"
#include "io/json.h"
#include "runtime/error.h"

namespace sonde {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little endian");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::string_view kDamaged = "the file is truncated or damaged: fetch it again";

struct NamedDType {
  std::string_view name;
  DType dtype;
};
constexpr NamedDType kDTypes[] = {
    {"F32", DType::f32},      {"F16", DType::f16}, {"BF16", DType::bf16}, {"F64", DType::f64},
    {"I8", DType::i8},        {"U8", DType::u8},   {"I16", DType::i16},   {"U16", DType::u16},
    {"I32", DType::i32},      {"U32", DType::u32}, {"I64", DType::i64},   {"U64", DType::u64},
    {"BOOL", DType::boolean},
};

// A tensor's entry in the header, offsets from the start of the data.
struct Entry {
  SafetensorsTensor tensor;
  std::int64_t begin = 0, end = 0;
};

const Json& field(const Json& entry, const char* key, const std::string& what) {
  if (const auto at = entry.find(key); at != entry.end()) return *at;
  fail("{}: found no {}, expected dtype, shape and data_offsets", what, key);
}

std::int64_t size_value(const Json& value, const std::string& what) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    fail("{}: found {}, expected a whole number from 0 to 2^63 - 1", what,
         printable(value.dump(-1, ' ', true)));
  return value.get<std::int64_t>();
}

DType read_dtype(const Json& value, const std::string& what) {
  std::string known;
  for (const NamedDType& row : kDTypes) {
    if (value.is_string() && value.get_ref<const std::string&>() == row.name) return row.dtype;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail("{} dtype: found {}, expected one of {}", what, printable(value.dump(-1, ' ', true)), known);
}

// Sets shape and rank, returns the number of values. A dim of 0 makes a tensor without values, but the
// product of the others must fit all the same: strides are computed from it.
std::int64_t read_shape(Tensor& view, const Json& value, const std::string& what) {
  if (!value.is_array()) fail("{} shape: found {}, expected a list", what, value.type_name());
  if (value.size() > view.shape.size())
    fail("{} shape: found {} dimensions, expected at most {}", what, value.size(), view.shape.size());
  std::int64_t product = 1;
  bool has_zero = false;
  for (const Json& dim : value) {
    const std::int64_t n = size_value(dim, what + " shape");
    view.shape[static_cast<std::size_t>(view.rank++)] = n;
    if (n == 0)
      has_zero = true;
    else if (__builtin_mul_overflow(product, n, &product))
      fail("{} shape: found {}, expected a product below 2^63", what, value.dump());
  }
  view.row_stride = view.width();
  return has_zero ? 0 : product;
}

Entry read_entry(const std::string& name, const Json& json, std::int64_t data_bytes,
                 const std::string& file) {
  const std::string what = fmt::format("{}: tensor \"{}\"", file, printable(name));
  if (!json.is_object()) fail("{}: found {}, expected an object", what, json.type_name());
  Entry entry;
  entry.tensor.name = name;
  Tensor& view = entry.tensor.view;
  view.dtype = read_dtype(field(json, "dtype", what), what);
  const std::int64_t count = read_shape(view, field(json, "shape", what), what);
  for (const auto& [key, value] : json.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail("{}: found key \"{}\", expected dtype, shape and data_offsets", what, printable(key));

  const Json& offsets = field(json, "data_offsets", what);
  if (!offsets.is_array() || offsets.size() != 2)
    fail("{} data_offsets: expected a list of two offsets", what);
  entry.begin = size_value(offsets[0], what + " data_offsets");
  entry.end = size_value(offsets[1], what + " data_offsets");
  if (entry.begin > entry.end || entry.end > data_bytes)
    fail_hint(std::string(kDamaged),
              "{} data_offsets: found [{}, {}], expected them in order and within {} bytes of data", what,
              entry.begin, entry.end, data_bytes);
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(count, info(view.dtype).block_bytes, &bytes) || bytes != entry.end - entry.begin)
    fail("{} data_offsets: found {} bytes, expected {} values of {} for {}", what, entry.end - entry.begin,
         count, sonde::name(view.dtype), view.describe());
  return entry;
}

// The tensors, in order of their bytes, must cover the data exactly: each byte belongs to one tensor.
void check_cover(const std::vector<Entry>& entries, std::int64_t data_bytes, const std::string& file) {
  std::int64_t end = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != end)
      fail("{}: tensor \"{}\" data_offsets: found a start at {}, expected {}: {}", file,
           printable(entry.tensor.name), entry.begin, end,
           entry.begin < end ? "it overlaps the tensor before" : "bytes belong to no tensor");
    end = entry.end;
  }
  if (end != data_bytes)
    fail_hint(std::string(kDamaged), "{}: found {} bytes of data, expected {} by the header's data_offsets",
              file, data_bytes, end);
}

}  // namespace

std::shared_ptr<Safetensors> Safetensors::open(const std::filesystem::path& path) {
  auto result = std::make_shared<Safetensors>();
  result->file_ = MappedFile::open(path);
  const std::string file = path.string();
  const std::span<const std::byte> bytes = result->file_->bytes();
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes))
    fail_hint(std::string(kDamaged), "{}: found {} bytes, expected at least 8 of a safetensors file", file,
              bytes.size());
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const std::uint64_t limit = std::min<std::uint64_t>(bytes.size() - sizeof(header_bytes), kMaxHeaderBytes);
  if (header_bytes > limit)
    fail_hint(std::string(kDamaged), "{}: header length: found {}, expected at most {} (file of {} bytes)",
              file, header_bytes, limit, bytes.size());

  const auto header_text = bytes.subspan(sizeof(header_bytes), static_cast<std::size_t>(header_bytes));
  const Json header =
      parse_json({reinterpret_cast<const char*>(header_text.data()), header_text.size()}, file + " header");
  if (!header.is_object()) fail("{}: header: found {}, expected an object", file, header.type_name());
  const std::span<const std::byte> data = bytes.subspan(sizeof(header_bytes) + header_text.size());

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(read_entry(name, value, static_cast<std::int64_t>(data.size()), file));
      continue;
    }
    if (!value.is_object()) fail("{}: __metadata__: found {}, expected an object", file, value.type_name());
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string())
        fail("{}: __metadata__: key \"{}\": found {}, expected a string", file, printable(key),
             text.type_name());
      result->metadata_.emplace_back(key, text.get<std::string>());
    }
  }
  std::ranges::stable_sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  check_cover(entries, static_cast<std::int64_t>(data.size()), file);
  // A tensor without values keeps a non-null pointer too: null means "no tensor".
  std::byte* base = result->file_->data() + sizeof(header_bytes) + header_text.size();
  for (Entry& entry : entries) {
    entry.tensor.view.data = base + entry.begin;
    result->tensors_.push_back(std::move(entry.tensor));
  }
  return result;
}

}  // namespace sonde
