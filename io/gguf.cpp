#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "io/file_util.h"
#include "io/mapped_file.h"
#include "runtime/error.h"

namespace sonde {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as little endian");

constexpr std::uint64_t kMaxNameBytes = 64;             // of a tensor (the format's own limit)
constexpr std::uint64_t kMaxKeyBytes = 65535;           // of a metadata key (the format's own limit)
constexpr std::uint64_t kMinKeyValueBytes = 8 + 4 + 1;  // length, type, the smallest value
constexpr std::uint64_t kMinTensorInfoBytes = 8 + 4 + 8 + 4 + 8;  // length, n_dims, one dim, type, offset

// Metadata value types by their number in the file.
enum class ValueType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

// ggml's tensor types by their number in the file; without a dtype Sonde knows the name but cannot read it.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;
  std::optional<DType> dtype;
};
constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", DType::f32},
    {1, "F16", DType::f16},
    {2, "Q4_0", DType::q4_0},
    {3, "Q4_1", DType::q4_1},
    {6, "Q5_0", DType::q5_0},
    {7, "Q5_1", DType::q5_1},
    {8, "Q8_0", DType::q8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", DType::q2_k},
    {11, "Q3_K", DType::q3_k},
    {12, "Q4_K", DType::q4_k},
    {13, "Q5_K", DType::q5_k},
    {14, "Q6_K", DType::q6_k},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", DType::iq4_nl},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", DType::iq4_xs},
    {24, "I8", DType::i8},
    {25, "I16", DType::i16},
    {26, "I32", DType::i32},
    {27, "I64", DType::i64},
    {28, "F64", DType::f64},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::bf16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", DType::mxfp4},
};

std::string readable_types() {
  std::string names;
  for (const GgmlType& type : kGgmlTypes)
    if (type.dtype) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

// Walks the file front to back; every read is checked against the bytes that are left.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return file_.size() - position_; }
  std::string where() const { return file_.path().string(); }

  template <class T>
  T number(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }
  // A length and that many bytes.
  std::string_view text(std::string_view what, std::uint64_t limit = UINT64_MAX) {
    const auto length = number<std::uint64_t>(what);
    if (length > limit)
      fail("{}: {}: found a length of {} bytes, expected at most {}", where(), what, length, limit);
    return {reinterpret_cast<const char*>(take(length, what)), static_cast<std::size_t>(length)};
  }
  const std::byte* take(std::uint64_t bytes, std::string_view what) {
    if (bytes > left())
      fail_hint("the file is truncated or damaged: fetch it again",
                "{}: {}: needs {} bytes at byte {}, but only {} of {} are left", where(), what, bytes,
                position_, left(), file_.size());
    const std::byte* data = file_.bytes().data() + position_;
    position_ += bytes;
    return data;
  }
  // Refuses a count that the rest of the file cannot hold, before anything is allocated for it.
  void expect_room(std::uint64_t count, std::uint64_t bytes_each, std::string_view what) const {
    if (count > left() / bytes_each)
      fail_hint("the file is truncated or damaged: fetch it again",
                "{}: {}: found {}, expected at most {} in the {} bytes that are left", where(), what, count,
                left() / bytes_each, left());
  }

 private:
  const MappedFile& file_;
  std::uint64_t position_ = 0;
};

bool read_bool(Cursor& in, std::string_view what) {
  const auto byte = in.number<std::uint8_t>(what);
  if (byte > 1) fail("{}: {}: found a bool of {}, expected 0 or 1", in.where(), what, byte);
  return byte == 1;
}

std::int64_t read_u64(Cursor& in, std::string_view what) {
  const auto value = in.number<std::uint64_t>(what);
  if (value > static_cast<std::uint64_t>(INT64_MAX))
    fail("{}: {}: found {}, expected an integer below 2^63", in.where(), what, value);
  return static_cast<std::int64_t>(value);
}

// n values of at least min_bytes each, one call of read_one per value.
template <class T>
std::vector<T> read_many(Cursor& in, std::uint64_t n, std::uint64_t min_bytes, std::string_view what,
                         auto&& read_one) {
  in.expect_room(n, min_bytes, what);
  std::vector<T> values;
  values.reserve(static_cast<std::size_t>(n));
  for (std::uint64_t i = 0; i < n; ++i) values.push_back(read_one());
  return values;
}

// A scalar (n absent) or an array of n values.
template <class T>
GgufValue read_values(Cursor& in, std::optional<std::uint64_t> n, std::uint64_t min_bytes,
                      std::string_view what, auto&& read_one) {
  if (!n) return static_cast<T>(read_one());
  return read_many<T>(in, *n, min_bytes, what, read_one);
}

template <class Stored>
GgufValue read_numbers(Cursor& in, std::optional<std::uint64_t> n, std::string_view what) {
  using Held = std::conditional_t<std::is_floating_point_v<Stored>, double, std::int64_t>;
  return read_values<Held>(in, n, sizeof(Stored), what,
                           [&] { return static_cast<Held>(in.number<Stored>(what)); });
}

GgufValue read_value(Cursor& in, std::uint32_t type, std::optional<std::uint64_t> n, std::string_view what) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::u8:
      return read_numbers<std::uint8_t>(in, n, what);
    case ValueType::i8:
      return read_numbers<std::int8_t>(in, n, what);
    case ValueType::u16:
      return read_numbers<std::uint16_t>(in, n, what);
    case ValueType::i16:
      return read_numbers<std::int16_t>(in, n, what);
    case ValueType::u32:
      return read_numbers<std::uint32_t>(in, n, what);
    case ValueType::i32:
      return read_numbers<std::int32_t>(in, n, what);
    case ValueType::i64:
      return read_numbers<std::int64_t>(in, n, what);
    case ValueType::f32:
      return read_numbers<float>(in, n, what);
    case ValueType::f64:
      return read_numbers<double>(in, n, what);
    case ValueType::u64:
      return read_values<std::int64_t>(in, n, 8, what, [&] { return read_u64(in, what); });
    case ValueType::boolean:
      return read_values<bool>(in, n, 1, what, [&] { return read_bool(in, what); });
    case ValueType::string:
      return read_values<std::string>(in, n, 8, what, [&] { return std::string(in.text(what)); });
    case ValueType::array: {
      if (n)
        fail("{}: {}: found an array of arrays, expected an array of numbers, bools or strings", in.where(),
             what);
      const auto element = in.number<std::uint32_t>(what);
      return read_value(in, element, in.number<std::uint64_t>(what), what);
    }
  }
  fail("{}: {}: found value type {}, expected 0 to {}", in.where(), what, type,
       static_cast<std::uint32_t>(ValueType::f64));
}

// Magic and version; leaves the cursor at the counts.
void read_preamble(Cursor& in) {
  if (std::memcmp(in.take(4, "magic"), "GGUF", 4) != 0)
    fail_hint("MODEL is a Hugging Face folder or a .gguf file",
              "{}: not a GGUF file: expected it to start with 'GGUF'", in.where());
  const auto version = in.number<std::uint32_t>("version");
  if (version != 0 && (version & 0xffff) == 0)
    fail_hint("convert the model again on a little-endian machine",
              "{}: version: found a big-endian file, expected little endian", in.where());
  if (version != 2 && version != 3)
    fail_hint("convert the model again with a current llama.cpp", "{}: version: found {}, expected 2 or 3",
              in.where(), version);
}

struct TensorInfo {
  Tensor view;           // all but data
  std::uint64_t offset;  // from the start of the data section
  std::uint64_t bytes;
  std::string name;
};

DType read_type(Cursor& in, const std::string& what) {
  const auto id = in.number<std::uint32_t>(what + " type");
  const auto* type = std::ranges::find(kGgmlTypes, id, &GgmlType::id);
  if (type == std::end(kGgmlTypes))
    fail_hint("readable types are " + readable_types(), "{}: {}: found unknown ggml type {}", in.where(),
              what, id);
  if (!type->dtype)
    fail_hint("readable types are " + readable_types(),
              "{}: {}: found ggml type {} ({}), which Sonde does not read", in.where(), what, id, type->name);
  return *type->dtype;
}

TensorInfo read_tensor_info(Cursor& in, std::uint64_t index) {
  TensorInfo tensor;
  tensor.name = in.text(fmt::format("name of tensor {}", index), kMaxNameBytes);
  if (tensor.name.empty()) fail("{}: tensor {}: found an empty name", in.where(), index);
  const std::string what = fmt::format("tensor \"{}\"", printable(tensor.name));

  const auto rank = in.number<std::uint32_t>(what + " n_dims");
  if (rank < 1 || rank > 4) fail("{}: {}: found {} dimensions, expected 1 to 4", in.where(), what, rank);
  tensor.view.rank = static_cast<int>(rank);
  std::int64_t count = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    const auto dim = in.number<std::uint64_t>(what + " dims");
    if (dim == 0 || dim > static_cast<std::uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(count, static_cast<std::int64_t>(dim), &count))
      fail("{}: {}: found dimension {} of {} values, expected 1 or more and a product below 2^63", in.where(),
           what, i, dim);
    tensor.view.shape[rank - 1 - i] = static_cast<std::int64_t>(dim);  // ne[0] is the row: last in row-major
  }
  tensor.view.dtype = read_type(in, what);
  tensor.view.row_stride = tensor.view.width();
  const std::int64_t row = tensor.view.dim(tensor.view.rank - 1);
  const DTypeInfo& type = info(tensor.view.dtype);
  if (row % type.block_values != 0)
    fail("{}: {}: found rows of {} values, expected a multiple of the {} block of {}", in.where(), what, row,
         type.name, type.block_values);
  if (static_cast<std::uint64_t>(count / type.block_values) >
      in.left() / static_cast<std::uint64_t>(type.block_bytes))
    fail_hint("the file is truncated or damaged: fetch it again",
              "{}: {}: found {} values of {}, more than the {} bytes that are left can hold", in.where(),
              what, count, type.name, in.left());
  tensor.bytes = static_cast<std::uint64_t>(bytes_of(tensor.view.dtype, count));
  tensor.offset = in.number<std::uint64_t>(what + " offset");
  return tensor;
}

// Tensors must not share bytes; gaps are padding.
void refuse_overlap(const std::vector<TensorInfo>& tensors, const std::string& where) {
  std::vector<const TensorInfo*> order;
  order.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const TensorInfo* t) { return std::pair(t->offset, t->bytes); });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
      fail("{}: tensor \"{}\": found its offset {} inside tensor \"{}\", which ends at {}", where,
           printable(order[i]->name), order[i]->offset, printable(order[i - 1]->name),
           order[i - 1]->offset + order[i - 1]->bytes);
}

std::string_view kind_of(const GgufValue& value) {
  constexpr std::string_view kKinds[] = {"an integer",
                                         "a float",
                                         "a bool",
                                         "a string",
                                         "an array of integers",
                                         "an array of floats",
                                         "an array of bools",
                                         "an array of strings"};
  static_assert(std::size(kKinds) == std::variant_size_v<GgufValue>);
  return kKinds[value.index()];
}

template <class T>
const T& get(const Gguf& file, std::string_view key) {
  const GgufValue& value = file.value(key);
  if (const T* held = std::get_if<T>(&value)) return *held;
  fail("{}: key {}: found {}, expected {}", file.path().string(), key, kind_of(value),
       kind_of(GgufValue(T{})));
}

}  // namespace

std::shared_ptr<Gguf> Gguf::open(const std::filesystem::path& path) {
  auto gguf = std::make_shared<Gguf>();
  gguf->path_ = path;
  gguf->file_ = MappedFile::open(path);
  Cursor in(*gguf->file_);
  read_preamble(in);
  const auto n_tensors = in.number<std::uint64_t>("tensor count");
  const auto n_values = in.number<std::uint64_t>("metadata count");
  in.expect_room(n_values, kMinKeyValueBytes, "metadata count");

  for (std::uint64_t i = 0; i < n_values; ++i) {
    const std::string key(in.text(fmt::format("metadata key {}", i), kMaxKeyBytes));
    const std::string what = fmt::format("key {}", printable(key));
    const auto type = in.number<std::uint32_t>(what);
    if (!gguf->values_.try_emplace(key, read_value(in, type, {}, what)).second)
      fail("{}: {}: found twice, expected once", in.where(), what);
    gguf->keys_.push_back(key);
  }

  std::uint64_t alignment = 32;
  if (gguf->has("general.alignment")) {
    const std::int64_t found = gguf->integer("general.alignment");
    if (found <= 0 || found > INT32_MAX || !std::has_single_bit(static_cast<std::uint64_t>(found)))
      fail("{}: key general.alignment: found {}, expected a power of two below 2^31", in.where(), found);
    alignment = static_cast<std::uint64_t>(found);
  }

  in.expect_room(n_tensors, kMinTensorInfoBytes, "tensor count");
  std::vector<TensorInfo> infos;
  std::unordered_map<std::string_view, std::uint64_t> index_of;
  infos.reserve(static_cast<std::size_t>(n_tensors));
  for (std::uint64_t i = 0; i < n_tensors; ++i) {
    infos.push_back(read_tensor_info(in, i));
    if (!index_of.try_emplace(infos.back().name, i).second)
      fail("{}: tensor \"{}\": found twice, expected once", in.where(), printable(infos.back().name));
  }

  // The data section starts at the next aligned byte; a file without tensors may end before it.
  const std::uint64_t data_start = (in.position() + alignment - 1) / alignment * alignment;
  const std::uint64_t data_bytes =
      gguf->file_->size() - std::min<std::uint64_t>(data_start, gguf->file_->size());
  for (TensorInfo& tensor : infos) {
    if (tensor.offset % alignment != 0)
      fail("{}: tensor \"{}\": found offset {}, expected a multiple of {} (general.alignment)", in.where(),
           printable(tensor.name), tensor.offset, alignment);
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset)
      fail_hint(
          "the file is truncated or damaged: fetch it again",
          "{}: tensor \"{}\": found {} bytes at offset {}, expected them inside the {} bytes of tensor data",
          in.where(), printable(tensor.name), tensor.bytes, tensor.offset, data_bytes);
  }
  refuse_overlap(infos, in.where());
  for (TensorInfo& tensor : infos) {
    tensor.view.data = gguf->file_->data() + data_start + tensor.offset;
    gguf->tensors_.push_back({std::move(tensor.name), tensor.view});
  }
  return gguf;
}

bool Gguf::has(std::string_view key) const { return values_.contains(std::string(key)); }

const GgufValue& Gguf::value(std::string_view key) const {
  if (const auto at = values_.find(std::string(key)); at != values_.end()) return at->second;
  fail("{}: key {}: found nothing, expected it in the metadata", path_.string(), key);
}

std::int64_t Gguf::integer(std::string_view key) const { return get<std::int64_t>(*this, key); }
double Gguf::real(std::string_view key) const {
  if (const auto* whole = std::get_if<std::int64_t>(&value(key))) return static_cast<double>(*whole);
  return get<double>(*this, key);
}
bool Gguf::boolean(std::string_view key) const { return get<bool>(*this, key); }
const std::string& Gguf::text(std::string_view key) const { return get<std::string>(*this, key); }
const std::vector<std::string>& Gguf::texts(std::string_view key) const {
  return get<std::vector<std::string>>(*this, key);
}
const std::vector<std::int64_t>& Gguf::integers(std::string_view key) const {
  return get<std::vector<std::int64_t>>(*this, key);
}
const std::vector<double>& Gguf::reals(std::string_view key) const {
  return get<std::vector<double>>(*this, key);
}

}  // namespace sonde
