// GGUF files that lie about counts, lengths, types, shapes and offsets.
#include "io/gguf.h"
#include "tests/io/hostile_files.h"

namespace sonde::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Bytes head(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
  return Bytes().raw("GGUF").put(version).put(tensors).put(values);
}
Bytes& tensor(Bytes& file, std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type,
              std::uint64_t offset) {
  file.text(name).put(static_cast<std::uint32_t>(dims.size()));
  for (const std::uint64_t dim : dims) file.put(dim);
  return file.put(type).put(offset);
}
std::string refuse(const Bytes& file) { return refusal("m.gguf", file.str(), Gguf::open); }

constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;
constexpr std::uint32_t kF32 = 0, kU32Value = 4, kStringValue = 8, kArrayValue = 9;

TEST(HostileGguf, Counts) {
  EXPECT_EQ(refuse(head(0, 0)), "");
  EXPECT_THAT(refuse(head(0, kHuge)),
              AllOf(HasSubstr(fmt::format("metadata count: found {}, expected at most 0", kHuge)),
                    HasSubstr("HINT: the file is truncated")));
  EXPECT_THAT(refuse(head(kHuge, 0)), HasSubstr("tensor count"));
  EXPECT_THAT(refuse(head(UINT64_MAX, UINT64_MAX)), HasSubstr("metadata count"));
  EXPECT_THAT(refuse(head(0, 1).text(std::string(70000, 'k')).put(kU32Value).put(1u)),
              HasSubstr("found a length of 70000 bytes, expected at most 65535"));
  EXPECT_THAT(refuse(Bytes().raw("GGUF").put(1u)), HasSubstr("version: found 1, expected 2 or 3"));
  EXPECT_THAT(refuse(Bytes().raw("GGUF").put(0x03000000u)), HasSubstr("big-endian"));
  EXPECT_THAT(refuse(Bytes().raw("GGML").put(3u)), HasSubstr("not a GGUF file"));
}

TEST(HostileGguf, Values) {
  const auto value = [] { return head(0, 1).text("k"); };
  EXPECT_THAT(refuse(value().put(13u).put(0u)), HasSubstr("key k: found value type 13, expected 0 to 12"));
  EXPECT_THAT(refuse(value().put(kStringValue).put(kHuge)), HasSubstr(fmt::format("needs {} bytes", kHuge)));
  EXPECT_THAT(refuse(value().put(std::uint32_t{7}).put(std::uint8_t{2})), HasSubstr("found a bool of 2"));
  EXPECT_THAT(refuse(value().put(std::uint32_t{10}).put(UINT64_MAX)),
              HasSubstr("expected an integer below 2^63"));
  EXPECT_THAT(refuse(value().put(kArrayValue).put(kArrayValue).put(std::uint64_t{1}).put(kU32Value)),
              HasSubstr("found an array of arrays"));
  for (const std::uint32_t element : {0u, 7u, kStringValue, 12u})
    EXPECT_THAT(refuse(value().put(kArrayValue).put(element).put(kHuge)),
                HasSubstr(fmt::format("key k: found {}, expected at most 0", kHuge)));
  EXPECT_THAT(refuse(head(0, 2).text("k").put(kU32Value).put(1u).text("k").put(kU32Value).put(2u)),
              HasSubstr("key k: found twice"));
  EXPECT_THAT(refuse(head(0, 1).text("a\nb").put(99u).put(0u)), HasSubstr(R"(key a\x0ab)"));
}

TEST(HostileGguf, Tensors) {
  const auto one = [](std::vector<std::uint64_t> dims, std::uint32_t type = kF32, std::uint64_t offset = 0,
                      std::string_view name = "t") {
    Bytes file = head(1, 0);
    return refuse(tensor(file, name, dims, type, offset).align(32).raw(std::string(64, 'x')));
  };
  EXPECT_EQ(one({4, 4}), "");
  EXPECT_THAT(one({}), HasSubstr("tensor \"t\": found 0 dimensions, expected 1 to 4"));
  EXPECT_THAT(one({1, 1, 1, 1, 4}), HasSubstr("found 5 dimensions"));
  EXPECT_THAT(one({4, 0}), HasSubstr("found dimension 1 of 0 values"));
  EXPECT_THAT(one({kHuge, kHuge}), HasSubstr("product below 2^63"));
  EXPECT_THAT(one({UINT64_MAX}), HasSubstr("product below 2^63"));
  EXPECT_THAT(one({kHuge}), AllOf(HasSubstr("more than the"), HasSubstr("HINT: the file is truncated")));
  EXPECT_THAT(one({17}), HasSubstr("found 68 bytes at offset 0, expected them inside the 64 bytes"));
  EXPECT_THAT(one({4}, kF32, 64), HasSubstr("found 16 bytes at offset 64"));
  EXPECT_THAT(one({4}, kF32, UINT64_MAX - 31), HasSubstr("at offset 18446744073709551584"));
  EXPECT_THAT(one({4}, kF32, 8), HasSubstr("found offset 8, expected a multiple of 32"));
  EXPECT_THAT(one({4}, 77), HasSubstr("found unknown ggml type 77"));
  EXPECT_THAT(one({4}, 9),
              AllOf(HasSubstr("(Q8_1), which Sonde does not read"), HasSubstr("HINT: readable types")));
  EXPECT_THAT(one({16}, 2),
              HasSubstr("found rows of 16 values, expected a multiple of the q4_0 block of 32"));
  EXPECT_THAT(one({4}, kF32, 0, std::string(65, 'n')),
              HasSubstr("found a length of 65 bytes, expected at most 64"));
  EXPECT_THAT(one({4}, kF32, 0, ""), HasSubstr("found an empty name"));
}

TEST(HostileGguf, TwoTensors) {
  const auto two = [](std::uint64_t first, std::uint64_t second, std::string_view name = "b") {
    Bytes file = head(2, 0);
    tensor(file, "a", {16}, kF32, first);
    return refuse(tensor(file, name, {16}, kF32, second).align(32).raw(std::string(128, 'x')));
  };
  EXPECT_EQ(two(64, 0), "");
  EXPECT_THAT(two(0, 32), AllOf(HasSubstr("tensor \"b\": found its offset 32 inside tensor \"a\"")));
  EXPECT_THAT(two(0, 0), HasSubstr("inside tensor"));
  EXPECT_THAT(two(0, 64, "a"), HasSubstr("tensor \"a\": found twice"));
}

TEST(HostileGguf, Alignment) {
  for (const std::uint32_t bad : {0u, 3u, 1u << 31})
    EXPECT_THAT(refuse(head(0, 1).text("general.alignment").put(kU32Value).put(bad)),
                HasSubstr(fmt::format("key general.alignment: found {}, expected a power of two", bad)));
}

// Whole files cut anywhere are refused, whatever the cut leaves.
TEST(HostileGguf, CutAnywhere) {
  Bytes file = head(1, 2).text("k").put(kU32Value).put(1u);
  file.text("s").put(kArrayValue).put(kStringValue).put(std::uint64_t{2}).text("one").text("two");
  const std::string whole = tensor(file, "t", {4}, kF32, 0).align(32).raw(std::string(16, 'x')).str();
  ASSERT_EQ(refusal("m.gguf", whole, Gguf::open), "");
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(refusal("m.gguf", whole.substr(0, n), Gguf::open), "") << n;
}

TEST(HostileGguf, ManySmallTensors) {
  const auto read = [](std::size_t n, bool same) {
    Bytes file = head(n, 0);
    for (std::size_t i = 0; i < n; ++i) tensor(file, fmt::format("t{}", same ? 0 : i), {1}, kF32, 32 * i);
    return refuse(file.align(32).raw(std::string(32 * n, 'x')));
  };
  EXPECT_LT(growth(10000, [&](std::size_t n) { EXPECT_EQ(read(n, false), ""); }), 8);
}

}  // namespace
}  // namespace sonde::test
