// Checksums of weights files: CRC-32C, which processors compute, in four lanes for its latency.
#include <array>
#include <cstdint>
#include <cstring>

#include "export.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace rocmforge {
namespace {

constexpr int lanes = 4;
constexpr int64_t word = sizeof(uint64_t);

constexpr std::array<uint32_t, 256> make_table() {
  constexpr uint32_t polynomial = 0x82f63b78;  // Castagnoli's, bits reversed
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> table = make_table();

uint32_t add_bytes(uint32_t crc, const uint8_t* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; ++i) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
  return crc;
}

uint64_t load(const uint8_t* data) {
  uint64_t loaded;
  std::memcpy(&loaded, data, word);
  return loaded;
}

void add_plain(const uint8_t* data, int64_t groups, uint32_t* crc) {
  for (int64_t i = 0; i < groups * lanes; ++i) {
    crc[i % lanes] = add_bytes(crc[i % lanes], data + i * word, word);
  }
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) void add_fast(const uint8_t* data, int64_t groups,
                                                uint32_t* crc) {
  uint64_t a = crc[0], b = crc[1], c = crc[2], d = crc[3];
  for (const uint8_t* end = data + groups * lanes * word; data != end; data += lanes * word) {
    a = _mm_crc32_u64(a, load(data));
    b = _mm_crc32_u64(b, load(data + word));
    c = _mm_crc32_u64(c, load(data + 2 * word));
    d = _mm_crc32_u64(d, load(data + 3 * word));
  }
  crc[0] = static_cast<uint32_t>(a);
  crc[1] = static_cast<uint32_t>(b);
  crc[2] = static_cast<uint32_t>(c);
  crc[3] = static_cast<uint32_t>(d);
}
#endif

void add_groups(const uint8_t* data, int64_t groups, uint32_t* crc) {
#if defined(__x86_64__)
  static const bool fast = __builtin_cpu_supports("sse4.2");
  if (fast) return add_fast(data, groups, crc);
#endif
  add_plain(data, groups, crc);
}

}  // namespace
}  // namespace rocmforge

// Continues four CRC-32C, each of every fourth word of 8 bytes; the bytes after the last whole 32
// are added to the first. They begin as 0xffffffff.
ROCMFORGE_EXPORT void rocmforge_add_checksum(const uint8_t* data, int64_t bytes, uint32_t* crc) {
  constexpr int64_t group = rocmforge::lanes * rocmforge::word;
  const int64_t groups = bytes / group;
  rocmforge::add_groups(data, groups, crc);
  crc[0] = rocmforge::add_bytes(crc[0], data + groups * group, bytes - groups * group);
}
