// safetensors files that lie about lengths, offsets, shapes and names.
#include "io/safetensors.h"

#include "tests/io/hostile_files.h"

namespace sonde::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refuse(const std::string& header, const std::string& data = "12345678",
                   std::uint64_t length = UINT64_MAX) {
  const std::uint64_t size = length == UINT64_MAX ? header.size() : length;
  return refusal("m.safetensors", Bytes().put(size).raw(header).raw(data).str(), Safetensors::open);
}

TEST(HostileSafetensors, HeaderLength) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refuse(good), "");
  for (const std::uint64_t length : {std::uint64_t{1} << 60, std::uint64_t{1000}, UINT64_MAX - 1})
    EXPECT_THAT(refuse(good, "12345678", length),
                AllOf(HasSubstr(fmt::format("header length: found {}, expected at most", length)),
                      HasSubstr("HINT: the file is truncated or damaged")));
  EXPECT_THAT(refusal("m.safetensors", "1234567", Safetensors::open), HasSubstr("found 7 bytes"));
  EXPECT_THAT(refuse(good, "12345678", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(refuse(good, "12345678", good.size() - 1), HasSubstr("not valid JSON"));
  EXPECT_THAT(refuse(std::string(5000, '[')), HasSubstr("nested deeper than 64"));
}

TEST(HostileSafetensors, Offsets) {
  const auto entry = [](const char* offsets, const char* shape = "[2]", const char* dtype = "F32") {
    return refuse(
        fmt::format(R"({{"a":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape, offsets));
  };
  const std::string a = "tensor \"a\" ";
  EXPECT_THAT(entry("[0,9]"), AllOf(HasSubstr(a), HasSubstr("found [0, 9]"), HasSubstr("within 8 bytes")));
  EXPECT_THAT(entry("[8,0]"), HasSubstr("found [8, 0]"));
  EXPECT_THAT(entry("[0,18446744073709551615]"), HasSubstr("expected a whole number from 0"));
  EXPECT_THAT(entry("[-1,8]"), HasSubstr("found -1"));
  EXPECT_THAT(entry("[0,8.0]"), HasSubstr("found 8.0"));
  EXPECT_THAT(entry("[0]"), HasSubstr("data_offsets"));
  EXPECT_THAT(entry("[0,4]"), AllOf(HasSubstr("found 4 bytes, expected 2 values of f32")));
  EXPECT_THAT(entry("[4,8]", "[1]"), HasSubstr("bytes belong to no tensor"));
  EXPECT_THAT(entry("[0,4]", "[1]"), HasSubstr("found 8 bytes of data, expected 4"));
  EXPECT_THAT(entry("[0,8]", "[4294967296,4294967296]"), HasSubstr("product below 2^63"));
  EXPECT_THAT(entry("[0,0]", "[0,9223372036854775807,3]"), HasSubstr("product below 2^63"));
  EXPECT_THAT(entry("[0,8]", "[4611686018427387904]", "F64"),
              HasSubstr("expected 4611686018427387904 values"));
  EXPECT_THAT(entry("[0,8]", "[1,1,1,1,2]"), HasSubstr("found 5 dimensions, expected at most 4"));
  EXPECT_THAT(entry("[0,8]", "[-2]"), HasSubstr("found -2"));
  EXPECT_THAT(entry("[0,8]", "2"), HasSubstr("shape: found number, expected a list"));
  EXPECT_THAT(entry("[0,8]", "[2]", "Q4_K"), HasSubstr("found \"Q4_K\", expected one of F32"));
}

TEST(HostileSafetensors, TwoTensors) {
  const auto pair = [](const char* first, const char* second, const char* name = "b") {
    return refuse(fmt::format(R"({{"a":{{"dtype":"F32","shape":[1],"data_offsets":{}}},
                                  "{}":{{"dtype":"F32","shape":[1],"data_offsets":{}}}}})",
                              first, name, second));
  };
  EXPECT_EQ(pair("[4,8]", "[0,4]"), "");
  EXPECT_THAT(pair("[0,4]", "[0,4]"), HasSubstr("it overlaps the tensor before"));
  EXPECT_THAT(pair("[0,4]", "[2,6]"), HasSubstr("found a start at 2, expected 4"));
  EXPECT_THAT(pair("[0,4]", "[4,8]", "a"), HasSubstr("key \"a\": found twice"));
  EXPECT_THAT(pair("[0,4]", "[0,4]", R"(x\n\u001b[31m)"), HasSubstr(R"(x\x0a\x1b[31m)"));
}

// A header of n tensors takes time in proportion to n, also where all names are one.
TEST(HostileSafetensors, ManySmallTensors) {
  const auto read = [](std::size_t n, bool same) {
    std::string header = "{";
    for (std::size_t i = 0; i < n; ++i)
      header += fmt::format(R"({}"t{}":{{"dtype":"U8","shape":[],"data_offsets":[{},{}]}})", i > 0 ? "," : "",
                            same ? 0 : i, i, i + 1);
    return refuse(header + "}", std::string(n, 'x'));
  };
  EXPECT_LT(growth(4000, [&](std::size_t n) { EXPECT_EQ(read(n, false), ""); }), 8);
  EXPECT_LT(growth(4000, [&](std::size_t n) { EXPECT_THAT(read(n, true), HasSubstr("found twice")); }), 8);
}

}  // namespace
}  // namespace sonde::test
