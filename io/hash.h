// Checksums: SHA-256 (FIPS 180-4) names a model's files, CRC-32C (RFC 3720, B.4) guards blocks of the store.
// Both use the CPU's own instructions where it has them, chosen at run time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace sonde {

// CRC-32C of bytes; pass the crc of what came before to go on: crc32c(b, crc32c(a)) == crc32c(a + b).
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);
std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before = 0);
// crc32c(a + b) of the two sums and the length of b.
std::uint32_t crc32c_join(std::uint32_t a, std::uint32_t b, std::uint64_t bytes_of_b);

class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  std::array<std::uint8_t, 32> finish();  // once
  std::string finish_hex();               // once

 private:
  std::array<std::uint32_t, 8> state_;
  std::array<std::byte, 64> tail_{};  // bytes that do not fill a block yet
  std::size_t tail_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
std::string sha256_file(const std::filesystem::path& path);

// The twins behind the dispatch, for tests: portable code, and the CPU's instructions or nullptr.
namespace hash_detail {
using Crc32c = std::uint32_t (*)(const std::byte* data, std::size_t bytes, std::uint32_t state);
using Sha256Blocks = void (*)(std::array<std::uint32_t, 8>& state, const std::byte* data, std::size_t blocks);
std::uint32_t crc32c_portable(const std::byte* data, std::size_t bytes, std::uint32_t state);
void sha256_portable(std::array<std::uint32_t, 8>& state, const std::byte* data, std::size_t blocks);
Crc32c crc32c_native();
Sha256Blocks sha256_native();
}  // namespace hash_detail

}  // namespace sonde
