#include "io/hash.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/mapped_file.h"
#include "runtime/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace sonde {
namespace {

// ---- CRC-32C: polynomials over GF(2), reflected: bit 31 is x^0, bit 0 is x^31.
constexpr std::uint32_t kPolynomial = 0x82f63b78;

constexpr std::uint32_t times_x(std::uint32_t a) { return (a >> 1) ^ ((a & 1) ? kPolynomial : 0); }

constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1, b = times_x(b))
    if (a & bit) product ^= b;
  return product;
}

constexpr std::uint32_t x_to_the(std::uint64_t n) {
  std::uint32_t power = 1u << 31;
  for (std::uint32_t square = 1u << 30; n != 0; n >>= 1, square = multiply(square, square))
    if (n & 1) power = multiply(power, square);
  return power;
}

// [k][b]: what byte b does to the state from k bytes before the end of an 8-byte step.
constexpr auto kByteTables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> t{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t state = b;
    for (int i = 0; i < 8; ++i) state = times_x(state);
    t[0][b] = state;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t b = 0; b < 256; ++b) t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 0xff];
  return t;
}();

// ---- SHA-256
constexpr std::array<std::uint32_t, 64> kRoundConstants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

constexpr std::array<std::uint32_t, 8> kInitialState = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#if defined(__x86_64__)
// One crc32 instruction takes 3 cycles but one can start in every: three streams of kStreamBytes run side by
// side, then the first two are moved past the bytes that follow them (times x^(8 bytes)) and added.
constexpr std::size_t kStreamBytes = 4096;

constexpr auto kSkipTables = [] {
  std::array<std::array<std::uint32_t, 256>, 4> t{};
  const std::uint32_t skip = x_to_the(8 * kStreamBytes);
  for (std::uint32_t k = 0; k < 4; ++k) {
    for (std::uint32_t bit = 0; bit < 8; ++bit) t[k][1u << bit] = multiply(1u << (8 * k + bit), skip);
    for (std::uint32_t b = 1; b < 256; ++b) t[k][b] = t[k][b & (b - 1)] ^ t[k][b & (0u - b)];
  }
  return t;
}();

std::uint32_t skip_stream(std::uint64_t state) {
  return kSkipTables[0][state & 0xff] ^ kSkipTables[1][(state >> 8) & 0xff] ^
         kSkipTables[2][(state >> 16) & 0xff] ^ kSkipTables[3][(state >> 24) & 0xff];
}

std::uint64_t load64(const std::byte* p) {
  std::uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

__attribute__((target("sse4.2"))) std::uint32_t crc32c_sse42(const std::byte* data, std::size_t bytes,
                                                             std::uint32_t before) {
  std::uint64_t state = before;
  for (; bytes >= 3 * kStreamBytes; bytes -= 3 * kStreamBytes, data += 3 * kStreamBytes) {
    std::uint64_t second = 0, third = 0;
    for (std::size_t i = 0; i < kStreamBytes; i += 8) {
      state = _mm_crc32_u64(state, load64(data + i));
      second = _mm_crc32_u64(second, load64(data + kStreamBytes + i));
      third = _mm_crc32_u64(third, load64(data + 2 * kStreamBytes + i));
    }
    state = skip_stream(skip_stream(state) ^ second) ^ third;
  }
  for (; bytes >= 8; bytes -= 8, data += 8) state = _mm_crc32_u64(state, load64(data));
  auto last = static_cast<std::uint32_t>(state);
  for (; bytes > 0; --bytes, ++data) last = _mm_crc32_u8(last, std::to_integer<unsigned char>(*data));
  return last;
}

// The SHA instructions keep the state as the words ABEF and CDGH and do two rounds each.
__attribute__((target("sha,sse4.1"))) void sha256_sha_ni(std::array<std::uint32_t, 8>& state,
                                                         const std::byte* data, std::size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);  // big endian words
  const auto load = [](const void* p) __attribute__((target("sha,sse4.1"))) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  };
  const __m128i cdab = _mm_shuffle_epi32(load(state.data()), 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(load(state.data() + 4), 0x1b);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
  __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

  for (; blocks > 0; --blocks, data += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];  // the last 16 words of the message schedule, four to a register
    for (int i = 0; i < 4; ++i) w[i] = _mm_shuffle_epi8(load(data + 16 * i), swap);
#pragma GCC unroll 16
    for (int group = 0; group < 16; ++group) {
      __m128i& now = w[group % 4];
      if (group >= 4) {
        const __m128i minus_12 = w[(group + 1) % 4], minus_8 = w[(group + 2) % 4],
                      minus_4 = w[(group + 3) % 4];
        now = _mm_add_epi32(_mm_sha256msg1_epu32(now, minus_12), _mm_alignr_epi8(minus_4, minus_8, 4));
        now = _mm_sha256msg2_epu32(now, minus_4);
      }
      __m128i sum = _mm_add_epi32(now, load(kRoundConstants.data() + 4 * group));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      sum = _mm_shuffle_epi32(sum, 0x0e);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, sum);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }

  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state.data()), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state.data() + 4), _mm_alignr_epi8(dchg, feba, 8));
}

bool has_sha_ni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) && __builtin_cpu_supports("sse4.1");
}
#endif

}  // namespace

namespace hash_detail {

std::uint32_t crc32c_portable(const std::byte* data, std::size_t bytes, std::uint32_t state) {
  const auto& t = kByteTables;
  const auto at = [&](std::size_t i) { return std::to_integer<std::uint32_t>(data[i]); };
  for (; bytes >= 8; bytes -= 8, data += 8)
    state = t[7][(state & 0xff) ^ at(0)] ^ t[6][((state >> 8) & 0xff) ^ at(1)] ^
            t[5][((state >> 16) & 0xff) ^ at(2)] ^ t[4][(state >> 24) ^ at(3)] ^ t[3][at(4)] ^ t[2][at(5)] ^
            t[1][at(6)] ^ t[0][at(7)];
  for (; bytes > 0; --bytes, ++data) state = (state >> 8) ^ t[0][(state & 0xff) ^ at(0)];
  return state;
}

void sha256_portable(std::array<std::uint32_t, 8>& state, const std::byte* data, std::size_t blocks) {
  for (; blocks > 0; --blocks, data += 64) {
    std::uint32_t w[64];
    for (std::size_t i = 0; i < 16; ++i) {
      w[i] = 0;
      for (std::size_t byte = 0; byte < 4; ++byte)
        w[i] = (w[i] << 8) | std::to_integer<std::uint32_t>(data[4 * i + byte]);
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRoundConstants[i] + w[i];
      const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::uint32_t sums[8] = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state[i] += sums[i];
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
  if (has_sha_ni()) return sha256_sha_ni;
#endif
  return nullptr;
}

}  // namespace hash_detail

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  using namespace hash_detail;
  static const Crc32c run = crc32c_native() != nullptr ? crc32c_native() : crc32c_portable;
  return ~run(bytes.data(), bytes.size(), ~before);
}

std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before) {
  return crc32c({static_cast<const std::byte*>(data), bytes}, before);
}

std::uint32_t crc32c_join(std::uint32_t a, std::uint32_t b, std::uint64_t bytes_of_b) {
  return multiply(a, x_to_the(8 * bytes_of_b)) ^ b;
}

namespace {

void sha256_blocks(std::array<std::uint32_t, 8>& state, const std::byte* data, std::size_t blocks) {
  using namespace hash_detail;
  static const Sha256Blocks run = sha256_native() != nullptr ? sha256_native() : sha256_portable;
  if (blocks > 0) run(state, data, blocks);
}

}  // namespace

Sha256::Sha256() : state_(kInitialState) {}

void Sha256::update(std::span<const std::byte> bytes) {
  total_bytes_ += bytes.size();
  if (tail_bytes_ > 0) {
    const std::size_t n = std::min(tail_.size() - tail_bytes_, bytes.size());
    std::copy_n(bytes.begin(), n, tail_.begin() + static_cast<std::ptrdiff_t>(tail_bytes_));
    tail_bytes_ += n;
    bytes = bytes.subspan(n);
    if (tail_bytes_ < tail_.size()) return;
    sha256_blocks(state_, tail_.data(), 1);
    tail_bytes_ = 0;
  }
  const std::size_t blocks = bytes.size() / tail_.size();
  sha256_blocks(state_, bytes.data(), blocks);
  bytes = bytes.subspan(blocks * tail_.size());
  std::ranges::copy(bytes, tail_.begin());
  tail_bytes_ = bytes.size();
}

std::array<std::uint8_t, 32> Sha256::finish() {
  // Padding: one bit, zeros up to 8 bytes before the end of a block, the length in bits.
  const std::uint64_t bits = total_bytes_ * 8;
  std::array<std::byte, 72> padding{};
  padding[0] = std::byte{0x80};
  const std::size_t zeros_end = (tail_bytes_ < 56 ? 56 : 120) - tail_bytes_;
  for (std::size_t i = 0; i < 8; ++i)
    padding[zeros_end + i] = static_cast<std::byte>((bits >> (56 - 8 * i)) & 0xff);
  update(std::span(padding).first(zeros_end + 8));

  std::array<std::uint8_t, 32> digest{};
  for (std::size_t i = 0; i < digest.size(); ++i)
    digest[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

std::string Sha256::finish_hex() {
  std::string text;
  for (std::uint8_t byte : finish()) text += fmt::format("{:02x}", byte);
  return text;
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
