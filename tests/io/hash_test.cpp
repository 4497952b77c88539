#include "io/hash.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde {
namespace {

std::vector<std::byte> noise(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0xff);
  return bytes;
}

// One bit at a time: the definition.
std::uint32_t crc32c_by_bits(std::span<const std::byte> bytes) {
  std::uint32_t state = ~0u;
  for (std::byte b : bytes) {
    state ^= std::to_integer<std::uint32_t>(b);
    for (int i = 0; i < 8; ++i) state = (state >> 1) ^ ((state & 1) ? 0x82f63b78u : 0u);
  }
  return ~state;
}

std::uint32_t crc_of(std::string_view text) { return crc32c(std::as_bytes(std::span(text))); }

TEST(Crc32c, VectorsOfRfc3720) {
  EXPECT_EQ(crc_of("123456789"), 0xe3069283u);
  EXPECT_EQ(crc_of(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc_of(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc_of(""), 0u);
}

TEST(Crc32c, EveryPathAgreesWithTheDefinition) {
  const std::vector<std::byte> bytes = noise(100'000, 7);
  for (std::size_t n : {0u, 1u, 7u, 8u, 33u, 257u, 12287u, 12288u, 12289u, 24577u, 99'999u})
    for (std::size_t skip : {0u, 1u}) {
      const std::span<const std::byte> part(bytes.data() + skip, n);
      const std::uint32_t expected = crc32c_by_bits(part);
      EXPECT_EQ(crc32c(part), expected) << n;
      EXPECT_EQ(~hash_detail::crc32c_portable(part.data(), n, ~0u), expected) << n;
      if (const auto native = hash_detail::crc32c_native()) {
        EXPECT_EQ(~native(part.data(), n, ~0u), expected) << n;
      }
    }
}

TEST(Crc32c, JoinsSumsOfPieces) {
  const std::vector<std::byte> bytes = noise(70'001, 3);
  const std::span<const std::byte> all(bytes);
  for (const std::size_t n : {0u, 1u, 5u, 4096u, 70'000u, 70'001u})
    EXPECT_EQ(crc32c_join(crc32c(all.first(n)), crc32c(all.subspan(n)), all.size() - n), crc32c(all)) << n;
}

TEST(Crc32c, GoesOnWhereItStopped) {
  const std::vector<std::byte> bytes = noise(50'000, 8);
  const std::uint32_t whole = crc32c(bytes);
  for (std::size_t cut : {0u, 1u, 12'345u, 49'999u, 50'000u})
    EXPECT_EQ(crc32c(std::span(bytes).subspan(cut), crc32c(std::span(bytes).first(cut))), whole) << cut;
}

TEST(Sha256, VectorsOfFips180) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PathsAgree) {
  const auto native = hash_detail::sha256_native();
  if (native == nullptr) GTEST_SKIP() << "this CPU has no SHA instructions";
  const std::vector<std::byte> bytes = noise(64 * 33 + 1, 9);
  std::array<std::uint32_t, 8> a{1, 2, 3, 4, 5, 6, 7, 8}, b = a;
  native(a, bytes.data() + 1, 33);
  hash_detail::sha256_portable(b, bytes.data() + 1, 33);
  EXPECT_EQ(a, b);
}

TEST(Sha256, PiecesMakeTheWhole) {
  const std::vector<std::byte> bytes = noise(1000, 10);
  for (std::size_t n = 0; n < 200; ++n) {
    const std::span<const std::byte> part(bytes.data(), n);
    Sha256 pieces;
    for (std::size_t at = 0, step = 1; at < n; at += step, step = step * 3 % 71)
      pieces.update(part.subspan(at, std::min(step, n - at)));
    EXPECT_EQ(pieces.finish_hex(), sha256_hex(part)) << n;
  }
}

TEST(Sha256, OfAFile) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "sonde_sha256_file";
  write_file_atomically(path, "abc");
  EXPECT_EQ(sha256_file(path), sha256_hex("abc"));
  std::filesystem::remove(path);
  EXPECT_THROW(sha256_file(path), Error);
}

}  // namespace
}  // namespace sonde
