#include "io/h5_structure.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde::h5 {
namespace {

static_assert(std::endian::native == std::endian::little, "HDF5 numbers are little endian");

constexpr std::string_view kSignature("\x89HDF\r\n\x1a\n", 8);
constexpr std::uint64_t kUndefined = UINT64_MAX, kLongestName = 4096;
constexpr int kDeepest = 40;  // groups and tree nodes below each other

// Numbers of header messages.
enum Message : std::uint16_t {
  kDataspace = 1,
  kDatatype = 3,
  kExternalFiles = 7,
  kLayout = 8,
  kFilters = 11,
  kContinuation = 16,
  kSymbolTable = 17
};
enum LayoutClass : std::uint8_t { kContiguous = 1, kVirtual = 3 };
enum Selection : std::uint32_t { kHyperslab = 2, kAll = 3 };

// A datatype message of the store's types: class and version, flags, size, and where the bits are.
std::string encoded(DType dtype) {
  std::string out;
  const auto put = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  const auto bytes = static_cast<std::uint32_t>(info(dtype).block_bytes);
  const auto bits = static_cast<std::uint16_t>(8 * bytes);
  const auto floating = [&](std::uint8_t exponent, std::uint32_t bias) {
    const auto mantissa = static_cast<std::uint8_t>(bits - 1 - exponent);
    put(std::uint32_t{0x2011} | static_cast<std::uint32_t>(bits - 1) << 16);  // the leading 1 is implied
    put(bytes), put(std::uint16_t{0}), put(bits);
    put(mantissa), put(exponent), put(std::uint8_t{0}), put(mantissa), put(bias);
  };
  const auto integer = [&](bool is_signed) {
    put(std::uint32_t{0x10} | (is_signed ? 0x800u : 0u));
    put(bytes), put(std::uint16_t{0}), put(bits);
  };
  switch (dtype) {
    case DType::f64:
      floating(11, 1023);
      break;
    case DType::f32:
    case DType::bf16:
      floating(8, 127);
      break;
    case DType::f16:
      floating(5, 15);
      break;
    default:
      integer(dtype != DType::u32);
  }
  return out;
}

constexpr DType kTypes[] = {DType::f32, DType::f64, DType::bf16, DType::f16,
                            DType::i32, DType::i64, DType::u32};

}  // namespace

struct Structure::Messages {
  struct One {
    std::uint16_t type = 0;
    std::uint64_t at = 0, bytes = 0;
  };
  std::vector<One> all;
  const One* find(std::uint16_t type) const {
    for (const One& message : all)
      if (message.type == type) return &message;
    return nullptr;
  }
};

void Structure::damaged(std::uint64_t at, std::string_view found, std::string_view expected) const {
  fail_hint("the file was changed or replaced, or was not written by sonde",
            "{}: HDF5 structure at byte {}: found {}, expected {}", file_->path().string(), at, found,
            expected);
}

std::string_view Structure::view(std::uint64_t at, std::uint64_t bytes) const {
  if (at > file_->size() || bytes > file_->size() - at)
    damaged(at, fmt::format("a file of {} bytes", file_->size()), fmt::format("{} more there", bytes));
  return {reinterpret_cast<const char*>(file_->data()) + at, static_cast<std::size_t>(bytes)};
}

template <class T>
T Structure::number(std::uint64_t at) const {
  T value;
  std::memcpy(&value, view(at, sizeof(T)).data(), sizeof(T));
  return value;
}

std::string Structure::text(std::uint64_t at) const {
  view(at, 1);
  const std::string_view rest = view(at, std::min<std::uint64_t>(kLongestName, file_->size() - at));
  const std::size_t end = rest.find('\0');
  if (end == rest.npos) damaged(at, "a name without an end", fmt::format("at most {} bytes", kLongestName));
  return std::string(rest.substr(0, end));
}

void Structure::expect(std::uint64_t at, std::string_view signature) const {
  if (const auto found = view(at, signature.size()); found != signature)
    damaged(at, fmt::format("'{}'", printable(found)), fmt::format("'{}'", printable(signature)));
}

void Structure::visit() {
  if (++visits_ > 64 + file_->size() / 8) damaged(0, "structures that repeat", "each of them once");
}

Structure::Structure(std::shared_ptr<MappedFile> file) : file_(std::move(file)) {
  expect(0, kSignature);
  if (number<std::uint8_t>(8) != 0)
    damaged(8, fmt::format("superblock version {}", number<std::uint8_t>(8)), "0, as sonde writes it");
  if (number<std::uint16_t>(13) != 0x0808) damaged(13, "other sizes of offsets and lengths", "8 and 8");
  if (number<std::uint64_t>(24) != 0) damaged(24, "a base address", "0");
  read_group("/", number<std::uint64_t>(64), 0);
}

void Structure::read_group(const std::string& path, std::uint64_t header, int depth) {
  const Messages messages = read_header(header);
  if (const auto* table = messages.find(kSymbolTable)) {
    const auto heap = number<std::uint64_t>(table->at + 8);
    expect(heap, "HEAP");
    read_node(path, number<std::uint64_t>(table->at), number<std::uint64_t>(heap + 24), depth);
  } else {
    read_dataset(path.substr(0, path.size() - 1), messages);
  }
}

// A node of a group's B-tree, or a leaf of names and headers. `names`: where the group's strings lie.
void Structure::read_node(const std::string& path, std::uint64_t node, std::uint64_t names, int depth) {
  visit();
  if (depth > kDeepest) damaged(node, "groups nested deeper", fmt::format("at most {} levels", kDeepest));
  if (view(node, 4) == "TREE") {
    const auto entries = number<std::uint16_t>(node + 6);
    for (std::uint64_t i = 0; i < entries; ++i)
      read_node(path, number<std::uint64_t>(node + 32 + 16 * i), names, depth + 1);
    return;
  }
  expect(node, "SNOD");
  const auto entries = number<std::uint16_t>(node + 6);
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::uint64_t entry = node + 8 + 40 * i;
    const auto name = number<std::uint64_t>(entry);
    if (name > file_->size() || names > file_->size())
      damaged(entry, "a name outside the file", "one inside");
    if (number<std::uint32_t>(entry + 16) == 2) damaged(entry, "a link to elsewhere", "a dataset or a group");
    read_group(path + text(names + name) + "/", number<std::uint64_t>(entry + 8), depth + 1);
  }
}

Structure::Messages Structure::read_header(std::uint64_t header) {
  if (number<std::uint8_t>(header) != 1)
    damaged(header, fmt::format("an object header of version {}", number<std::uint8_t>(header)), "1");
  const auto count = number<std::uint16_t>(header + 2);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> blocks = {
      {header + 16, number<std::uint32_t>(header + 8)}};
  Messages messages;
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const auto [begin, size] = blocks[b];
    view(begin, size);
    for (std::uint64_t at = begin; begin + size - at >= 8 && messages.all.size() < count;) {
      visit();
      const auto type = number<std::uint16_t>(at), bytes = number<std::uint16_t>(at + 2);
      if (bytes > begin + size - at - 8) damaged(at, "a message that leaves its block", "one inside");
      const bool shared = (number<std::uint8_t>(at + 4) & 2) != 0;
      if (shared) damaged(at, "a shared message", "one of its own");
      messages.all.push_back({type, at + 8, bytes});
      if (type == kContinuation)
        blocks.emplace_back(number<std::uint64_t>(at + 8), number<std::uint64_t>(at + 16));
      at += 8 + std::uint64_t{bytes};
    }
  }
  return messages;
}

void Structure::read_dataset(const std::string& path, const Messages& messages) {
  const auto* space = messages.find(kDataspace);
  const auto* type = messages.find(kDatatype);
  const auto* layout = messages.find(kLayout);
  if (!space || !type || !layout)
    fail("{}: {}: found neither a group nor a dataset", file_->path().string(), printable(path));
  for (const std::uint16_t odd : {kExternalFiles, kFilters})
    if (const auto* found = messages.find(odd)) damaged(found->at, "external or packed values", "plain ones");

  Found found;
  H5Dataset& dataset = found.place.dataset;
  dataset.name = path;
  const auto* known = std::end(kTypes);
  for (const DType& candidate : kTypes)
    if (const std::string code = encoded(candidate);
        type->bytes >= code.size() && view(type->at, code.size()) == code)
      known = &candidate;
  if (known == std::end(kTypes))
    fail("{}: dataset {} has a type that no store has", file_->path().string(), printable(path));
  dataset.dtype = *known;

  if (number<std::uint8_t>(space->at) != 1) damaged(space->at, "another version of a shape", "1");
  const auto rank = number<std::uint8_t>(space->at + 1);
  for (std::uint64_t i = 0; i < rank; ++i) {
    const auto dim = number<std::uint64_t>(space->at + 8 + 8 * i);
    if (dim > INT64_MAX) damaged(space->at, "a dimension above 2^63", "fewer rows");
    dataset.shape.push_back(static_cast<std::int64_t>(dim));
  }

  const auto version = number<std::uint8_t>(layout->at), kind = number<std::uint8_t>(layout->at + 1);
  if (version == 3 && kind == kContiguous) {
    const auto offset = number<std::uint64_t>(layout->at + 2), bytes = number<std::uint64_t>(layout->at + 10);
    if (bytes != static_cast<std::uint64_t>(dataset.bytes()))
      damaged(layout->at, fmt::format("{} bytes of values", bytes),
              fmt::format("{} by the shape", dataset.bytes()));
    if (offset != kUndefined) {
      view(offset, bytes);
      found.place.offset = static_cast<std::int64_t>(offset);
    } else if (bytes > 0) {
      damaged(layout->at, "values without a place", "one in this file");
    }
  } else if (version == 4 && kind == kVirtual) {
    found.heap = number<std::uint64_t>(layout->at + 2);
    found.heap_index = number<std::uint32_t>(layout->at + 10);
    if (found.heap_index == 0) damaged(layout->at, "a virtual dataset without mappings", "some");
  } else {
    damaged(layout->at, fmt::format("layout version {} class {}", version, kind),
            "contiguous or virtual values");
  }
  datasets_[path] = std::move(found);
}

std::vector<H5Mapping> Structure::mappings(const Found& dataset) const {
  if (dataset.heap_index == 0) return {};
  expect(dataset.heap, "GCOL");
  const auto size = number<std::uint64_t>(dataset.heap + 8);
  view(dataset.heap, size);
  const std::uint64_t end = dataset.heap + size;
  std::uint64_t at = dataset.heap + 16, object_end = 0;
  while (object_end == 0) {
    const auto index = number<std::uint16_t>(at);
    const auto bytes = number<std::uint64_t>(at + 8);
    if (at + 16 > end || index == 0 || bytes > end - at - 16)
      damaged(at, fmt::format("no object {}", dataset.heap_index), "the mappings of a virtual dataset");
    at += 16;
    if (index == dataset.heap_index)
      object_end = at + bytes;
    else
      at += std::min((bytes + 7) / 8 * 8, end - at);
  }

  if (number<std::uint8_t>(at) != 0) damaged(at, "another version of mappings", "0");
  const auto count = number<std::uint64_t>(at + 1);
  at += 9;
  std::vector<H5Mapping> mappings;
  // Moves `at` behind a selection and gives its first and last row.
  const auto selection = [&](std::int64_t rows) -> std::pair<std::uint64_t, std::uint64_t> {
    const auto kind = number<std::uint32_t>(at), version = number<std::uint32_t>(at + 4);
    if (kind == kAll) {
      at += 16;
      return {0, static_cast<std::uint64_t>(rows) - 1};
    }
    if (kind != kHyperslab || version < 1 || version > 2) damaged(at, "another kind of selection", "rows");
    if (version == 1) {  // one block of 32-bit corners
      const auto rank = number<std::uint32_t>(at + 16), blocks = number<std::uint32_t>(at + 20);
      if (rank != dataset.place.dataset.shape.size() || blocks != 1)
        damaged(at, "scattered rows", "one block");
      const std::pair<std::uint64_t, std::uint64_t> corner{number<std::uint32_t>(at + 24),
                                                           number<std::uint32_t>(at + 24 + 4 * rank)};
      at += 24 + 8 * std::uint64_t{rank};
      return corner;
    }
    const auto rank = number<std::uint32_t>(at + 13);
    if (rank != dataset.place.dataset.shape.size()) damaged(at, "rows of another shape", "the dataset's");
    std::uint64_t part[4];  // start, stride, count, block of the rows
    for (std::uint64_t i = 0; i < 4; ++i) part[i] = number<std::uint64_t>(at + 17 + 8 * i);
    at += 17 + 32 * std::uint64_t{rank};
    return {part[0], part[0] + (part[2] - 1) * part[1] + part[3] - 1};
  };
  for (std::uint64_t i = 0; i < count; ++i) {
    if (at >= object_end) damaged(at, fmt::format("{} mappings", count), "fewer in these bytes");
    H5Mapping mapping;
    mapping.file = text(at);
    at += mapping.file.size() + 1;
    mapping.dataset = text(at);
    at += mapping.dataset.size() + 1;
    selection(1);
    const auto [first, last] =
        selection(dataset.place.dataset.shape.empty() ? 1 : dataset.place.dataset.shape[0]);
    mapping.first = static_cast<std::int64_t>(first);
    mapping.rows = static_cast<std::int64_t>(last - first + 1);
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

}  // namespace sonde::h5
