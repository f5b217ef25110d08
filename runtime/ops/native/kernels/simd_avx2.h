// The SIMD layer on AVX2, FMA and F16C; simd_scalar.h says what each name means.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "half.h"

namespace rocmforge::avx2 {

constexpr const char* instruction_set_name = "avx2";
constexpr int lanes = 8;
constexpr int tile_rows = 4;
constexpr int tile_queries = 3;
constexpr int unpacked_from = 9;
constexpr int signed_offset = 0;

using F32 = __m256;
struct I32 {
  __m256i value;
};

#include "simd_x86.h"

inline F32 broadcast(float x) { return _mm256_set1_ps(x); }
inline F32 load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F32 x) { _mm256_storeu_ps(p, x); }
inline F32 load_half(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store_half(Half* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
inline F32 load_bfloat(const Half* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
inline F32 subtract(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
inline F32 multiply(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
inline F32 divide(F32 a, F32 b) { return _mm256_div_ps(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
inline F32 maximum(F32 a, F32 b) { return _mm256_max_ps(a, b); }
inline F32 minimum(F32 a, F32 b) { return _mm256_min_ps(a, b); }
inline F32 absolute(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline F32 zero_where_less(F32 x, F32 limit, F32 value) {
  return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), value);
}
inline uint32_t lanes_not_less(F32 a, F32 b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
inline F32 round_to_even(F32 a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 power_of_two(F32 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
// Adds adjacent lanes, then pairs, then the halves, as `sums` does.
inline float sum(F32 a) {
  const __m128 low = _mm256_castps256_ps128(a), high = _mm256_extractf128_ps(a, 1);
  const __m128 pairs = _mm_hadd_ps(low, high);
  const __m128 halves = _mm_hadd_ps(pairs, pairs);
  return _mm_cvtss_f32(_mm_hadd_ps(halves, halves));
}
inline float largest(F32 a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline F32 sums_of_four(const F32* rows) {
  return _mm256_hadd_ps(_mm256_hadd_ps(rows[0], rows[1]), _mm256_hadd_ps(rows[2], rows[3]));
}
inline F32 joined(const F32 (&fours)[lanes / 4]) {
  return _mm256_add_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20),
                       _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
}

inline I32 add(I32 a, I32 b) { return {_mm256_add_epi32(a.value, b.value)}; }
inline F32 to_float(I32 a) { return _mm256_cvtepi32_ps(a.value); }
template <int multiple>
inline I32 subtract_multiple(I32 a, int32_t x) {
  const __m256i product = _mm256_mullo_epi32(_mm256_set1_epi32(x), _mm256_set1_epi32(multiple));
  return {_mm256_sub_epi32(a.value, product)};
}

using Bytes = __m256i;
inline Bytes load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline void store_bytes(uint8_t* p, Bytes x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
}
inline Bytes shift_right(Bytes x, int bits) { return _mm256_srli_epi16(x, bits); }
template <int width>
inline Bytes low_bits_of(Bytes x) {
  return _mm256_and_si256(x, _mm256_set1_epi8((1 << width) - 1));
}
template <int bits>
inline Bytes shift_left(Bytes x) {
  return _mm256_slli_epi16(x, bits);
}
inline Bytes bit_or(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
inline Bytes look_up(const uint8_t* table, Bytes indices) {
  return _mm256_shuffle_epi8(load_bytes(table), indices);
}
inline F32 load_int8(const int8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

inline int32_t multiplier_word(int32_t multiplier) { return multiplier | multiplier << 16; }

// Pairs of products as int16. Signed codes move their sign to the activations, since the
// instruction wants its left side unsigned: 2 * 128 * 127 still fits.
template <typename Format>
inline __m256i pairs(__m256i codes, __m256i activations) {
  if constexpr (Format::is_signed) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(activations, codes));
  } else {
    return _mm256_maddubs_epi16(codes, activations);
  }
}

template <typename Format>
inline I32 products(Bytes first, Bytes second, const int8_t* x_first, const int8_t* x_second,
                    int32_t multiplier) {
  // Whether an int16 can add up the products of a whole group of 8 activations.
  constexpr bool fits = !Format::is_signed && Format::low_bits + Format::high_bits <= 6;
  const __m256i a = pairs<Format>(first, _mm256_set1_epi32(four_codes(x_first)));
  const __m256i b = pairs<Format>(second, _mm256_set1_epi32(four_codes(x_second)));
  const __m256i times = _mm256_set1_epi32(multiplier);
  if constexpr (fits) return {_mm256_madd_epi16(_mm256_add_epi16(a, b), times)};
  return {_mm256_add_epi32(_mm256_madd_epi16(a, times), _mm256_madd_epi16(b, times))};
}

struct Pairs {
  __m256i value;
};
inline Pairs pair_products(Bytes codes, const int8_t* x) {
  return {_mm256_maddubs_epi16(codes, _mm256_set1_epi32(four_codes(x)))};
}
inline Pairs add(Pairs a, Pairs b) { return {_mm256_add_epi16(a.value, b.value)}; }
inline I32 add_products(I32 total, Pairs sums, int32_t multipliers) {
  const __m256i products = _mm256_madd_epi16(sums.value, _mm256_set1_epi32(multipliers));
  return {_mm256_add_epi32(total.value, products)};
}
inline I32 no_products() { return {_mm256_setzero_si256()}; }

}  // namespace rocmforge::avx2
