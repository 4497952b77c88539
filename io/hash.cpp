#include "io/hash.h"

#include <bit>
#include <cstring>

#include "io/mapped_file.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sonde {
namespace {

constexpr std::uint32_t kCrcPolynomial = 0x82f63b78;  // Castagnoli, reflected

// Slicing by 8: table[0] advances one byte, table[j] a byte that is followed by j others.
struct CrcTables {
  std::uint32_t table[8][256];
  constexpr CrcTables() : table{} {
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kCrcPolynomial : 0);
      table[0][i] = crc;
    }
    for (int j = 1; j < 8; ++j)
      for (int i = 0; i < 256; ++i) table[j][i] = (table[j - 1][i] >> 8) ^ table[0][table[j - 1][i] & 0xff];
  }
};
constexpr CrcTables kCrc;

constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#if defined(__x86_64__)
// The CPU's crc32 has three cycles of latency and one of throughput: three streams, joined by a carry-less
// product with x^(8 * bytes) modulo the polynomial.
constexpr std::size_t kStream = 4096;

// a(x) * b(x) mod P, bit-reflected.
constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (std::uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    if (a & bit) product ^= b;
    b = (b >> 1) ^ ((b & 1) ? kCrcPolynomial : 0);
  }
  return product;
}
constexpr std::uint32_t power_of_x(std::uint64_t bits) {  // x^bits mod P
  std::uint32_t result = 0x80000000u, square = 0x40000000u;
  for (; bits != 0; bits >>= 1) {
    if (bits & 1) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}
constexpr std::uint32_t kSkipStream = power_of_x(8 * kStream), kSkipTwo = power_of_x(16 * kStream);

__attribute__((target("sse4.2"))) std::uint32_t crc32c_sse42(const std::byte* data, std::size_t bytes,
                                                             std::uint32_t state) {
  const auto word = [](const std::byte* p) {
    std::uint64_t w;
    std::memcpy(&w, p, 8);
    return w;
  };
  while (bytes >= 3 * kStream) {
    std::uint64_t a = state, b = 0, c = 0;
    for (std::size_t i = 0; i < kStream; i += 8) {
      a = _mm_crc32_u64(a, word(data + i));
      b = _mm_crc32_u64(b, word(data + kStream + i));
      c = _mm_crc32_u64(c, word(data + 2 * kStream + i));
    }
    state = multiply(static_cast<std::uint32_t>(a), kSkipTwo) ^
            multiply(static_cast<std::uint32_t>(b), kSkipStream) ^ static_cast<std::uint32_t>(c);
    data += 3 * kStream;
    bytes -= 3 * kStream;
  }
  for (; bytes >= 8; data += 8, bytes -= 8)
    state = static_cast<std::uint32_t>(_mm_crc32_u64(state, word(data)));
  for (; bytes > 0; ++data, --bytes) state = _mm_crc32_u8(state, static_cast<std::uint8_t>(*data));
  return state;
}

__attribute__((target("sha,sse4.1"))) void sha256_ni(std::array<std::uint32_t, 8>& state,
                                                     const std::byte* data, std::size_t blocks) {
  const __m128i byte_order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  // The instructions want the state as ABEF and CDGH.
  const __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&state[0])), 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&state[4])), 0x1b);
  __m128i abef = _mm_alignr_epi8(abcd, efgh, 8), cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
  for (; blocks > 0; --blocks, data += 64) {
    const __m128i abef0 = abef, cdgh0 = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i)
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + i), byte_order);
    for (int i = 0; i < 16; ++i) {
      const __m128i sum =
          _mm_add_epi32(w[i % 4], _mm_loadu_si128(reinterpret_cast<const __m128i*>(kRound) + i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
      if (i >= 12) continue;
      const __m128i& w3 = w[(i + 3) % 4];
      const __m128i shifted = _mm_alignr_epi8(w3, w[(i + 2) % 4], 4);
      w[i % 4] =
          _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]), shifted), w3);
    }
    abef = _mm_add_epi32(abef, abef0);
    cdgh = _mm_add_epi32(cdgh, cdgh0);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(&state[0]), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(&state[4]), _mm_alignr_epi8(dchg, feba, 8));
}

// __builtin_cpu_supports of gcc 12 does not know "sha": CPUID leaf 7, EBX bit 29.
bool has_sha() {
  std::uint32_t a = 7, b = 0, c = 0, d = 0;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (b >> 29 & 1) != 0 && __builtin_cpu_supports("sse4.1");
}
#endif

}  // namespace

namespace hash_detail {

std::uint32_t crc32c_portable(const std::byte* data, std::size_t bytes, std::uint32_t state) {
  const auto& t = kCrc.table;
  for (; bytes >= 8; data += 8, bytes -= 8) {
    std::uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    low ^= state;
    state = t[7][low & 0xff] ^ t[6][low >> 8 & 0xff] ^ t[5][low >> 16 & 0xff] ^ t[4][low >> 24] ^
            t[3][high & 0xff] ^ t[2][high >> 8 & 0xff] ^ t[1][high >> 16 & 0xff] ^ t[0][high >> 24];
  }
  for (; bytes > 0; ++data, --bytes)
    state = (state >> 8) ^ t[0][(state ^ static_cast<std::uint32_t>(*data)) & 0xff];
  return state;
}

void sha256_portable(std::array<std::uint32_t, 8>& state, const std::byte* data, std::size_t blocks) {
  for (; blocks > 0; --blocks, data += 64) {
    std::uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      std::memcpy(&w[i], data + 4 * i, 4);
      w[i] = __builtin_bswap32(w[i]);
    }
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
      const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::uint32_t sum[8] = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state[i] += sum[i];
  }
}

Crc32c crc32c_native() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42;
#endif
  return nullptr;
}

Sha256Blocks sha256_native() {
#if defined(__x86_64__)
  if (has_sha()) return sha256_ni;
#endif
  return nullptr;
}

}  // namespace hash_detail

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  static const auto run =
      hash_detail::crc32c_native() ? hash_detail::crc32c_native() : hash_detail::crc32c_portable;
  return ~run(bytes.data(), bytes.size(), ~before);
}

std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before) {
  return crc32c(std::span(static_cast<const std::byte*>(data), bytes), before);
}

Sha256::Sha256()
    : state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {
}

void Sha256::update(std::span<const std::byte> bytes) {
  static const auto run =
      hash_detail::sha256_native() ? hash_detail::sha256_native() : hash_detail::sha256_portable;
  total_bytes_ += bytes.size();
  if (tail_bytes_ > 0) {
    const std::size_t taken = std::min(bytes.size(), tail_.size() - tail_bytes_);
    std::memcpy(tail_.data() + tail_bytes_, bytes.data(), taken);
    tail_bytes_ += taken;
    bytes = bytes.subspan(taken);
    if (tail_bytes_ < tail_.size()) return;
    run(state_, tail_.data(), 1);
    tail_bytes_ = 0;
  }
  run(state_, bytes.data(), bytes.size() / 64);
  tail_bytes_ = bytes.size() % 64;
  if (tail_bytes_ > 0) std::memcpy(tail_.data(), bytes.data() + bytes.size() - tail_bytes_, tail_bytes_);
}

std::array<std::uint8_t, 32> Sha256::finish() {
  const std::uint64_t bits = total_bytes_ * 8;
  std::array<std::byte, 72> padding{std::byte{0x80}};
  const std::size_t zeros = (119 - total_bytes_ % 64) % 64;  // up to 8 bytes short of a block
  for (std::size_t i = 0; i < 8; ++i) padding[1 + zeros + i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  update(std::span(padding).first(1 + zeros + 8));
  std::array<std::uint8_t, 32> digest;
  for (std::size_t i = 0; i < 32; ++i)
    digest[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

std::string Sha256::finish_hex() {
  std::string hex;
  for (const std::uint8_t byte : finish()) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish_hex();
}
std::string sha256_hex(std::string_view text) { return sha256_hex(std::as_bytes(std::span(text))); }
std::string sha256_file(const std::filesystem::path& path) {
  return sha256_hex(MappedFile::open(path)->bytes());
}

}  // namespace sonde
