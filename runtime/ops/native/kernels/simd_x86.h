// What the AVX2 and the AVX-512 layer share: blocks of 32 codes in 256-bit registers.
// Included inside the namespace of a layer.

using Codes = __m256i;
using Products = __m256i;  // eight int32

inline Codes load_codes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void store_codes(void* p, Codes codes) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), codes);
}
inline Codes load_nibbles(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m256i both =
      _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
  return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

inline int32_t sum(Products products) {
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

inline __m256i sums_of_eight(const __m256i* rows) {
  const __m256i a =
      _mm256_hadd_epi32(_mm256_hadd_epi32(rows[0], rows[1]), _mm256_hadd_epi32(rows[2], rows[3]));
  const __m256i b =
      _mm256_hadd_epi32(_mm256_hadd_epi32(rows[4], rows[5]), _mm256_hadd_epi32(rows[6], rows[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                          _mm256_permute2x128_si256(a, b, 0x31));
}

// Eight rows of eight 32-bit values: transposed[k] holds value k of every row.
inline void transpose_eight(const __m256i* rows, __m256i* transposed) {
  __m256i pairs[8];
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    pairs[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    const __m256i low = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    const __m256i high = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    const __m256i low_rest = _mm256_unpacklo_epi64(pairs[i + 4], pairs[i + 6]);
    const __m256i high_rest = _mm256_unpackhi_epi64(pairs[i + 4], pairs[i + 6]);
    transposed[2 * i] = _mm256_permute2x128_si256(low, low_rest, 0x20);
    transposed[2 * i + 1] = _mm256_permute2x128_si256(high, high_rest, 0x20);
    transposed[2 * i + 4] = _mm256_permute2x128_si256(low, low_rest, 0x31);
    transposed[2 * i + 5] = _mm256_permute2x128_si256(high, high_rest, 0x31);
  }
}

inline int16_t half_bits(const uint8_t* p) {
  int16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}

inline __m128i gather_eight_halves(const uint8_t* p, int64_t stride) {
  const uint8_t* middle = p + 4 * stride;
  return _mm_setr_epi16(half_bits(p), half_bits(p + stride), half_bits(p + 2 * stride),
                        half_bits(p + 3 * stride), half_bits(middle), half_bits(middle + stride),
                        half_bits(middle + 2 * stride), half_bits(middle + 3 * stride));
}

inline int32_t four_codes(const int8_t* p) {
  int32_t codes;
  std::memcpy(&codes, p, sizeof codes);
  return codes;
}

// A group's multiplier, twice in 32 bits.
inline int32_t multiplier_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return pair;
}
