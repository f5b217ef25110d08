// The SIMD layer on AVX-512 (F, BW, VL, DQ, VNNI); simd_scalar.h says what each name means.
#pragma once

#ifdef ROCMFORGE_EMULATE_AVX512
#include "simd_emulation.h"
#else
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "half.h"

namespace rocmforge::avx512 {

constexpr const char* instruction_set_name = "avx512";
constexpr int lanes = 16;
constexpr int tile_rows = 8;
constexpr int tile_queries = 4;
// Stores of whole vectors cost more than to unpack again for every tile.
constexpr int unpacked_from = 65;
// vpdpbusd wants unsigned codes: signed ones are moved up by 128.
constexpr int signed_offset = 128;

using F32 = __m512;
struct I32 {
  __m512i value;
};

#include "simd_x86.h"

inline F32 broadcast(float x) { return _mm512_set1_ps(x); }
inline F32 load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
inline F32 load_half(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_half(Half* p, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
inline F32 load_bfloat(const Half* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 subtract(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 multiply(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 divide(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 maximum(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 minimum(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 absolute(F32 a) { return _mm512_abs_ps(a); }
inline F32 zero_where_less(F32 x, F32 limit, F32 value) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
}
inline uint32_t lanes_not_less(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline F32 round_to_even(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 power_of_two(F32 n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

// Sums of adjacent lanes of a, then of b, within each 128 bits.
inline __m512 add_adjacent(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
inline __m512i add_adjacent(__m512i a, __m512i b) {
  const __m512 even = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
  const __m512 odd = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd);
  return _mm512_add_epi32(_mm512_castps_si512(even), _mm512_castps_si512(odd));
}
inline __m128 quarter(__m512 a, bool second) {
  const __m256 half = _mm512_castps512_ps256(a);
  return second ? _mm256_extractf128_ps(half, 1) : _mm256_castps256_ps128(half);
}

// Adds adjacent lanes, then pairs, then the quarters, as `sums` does.
inline float sum(F32 a) {
  const __m512 pairs = add_adjacent(a, a);
  const __m512 fours = add_adjacent(pairs, pairs);
  const __m512 upper = _mm512_shuffle_f32x4(fours, fours, 0xee);
  const __m512 halves = _mm512_add_ps(fours, upper);
  return _mm_cvtss_f32(_mm_add_ss(quarter(halves, false), quarter(halves, true)));
}
inline float largest(F32 a) {
  const __m512 upper = _mm512_shuffle_f32x4(a, a, 0xee);
  const __m512 halves = _mm512_max_ps(a, upper);
  const __m128 four = _mm_max_ps(quarter(halves, false), quarter(halves, true));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
// One partial sum of each row in each quarter.
inline F32 sums_of_four(const F32* rows) {
  return add_adjacent(add_adjacent(rows[0], rows[1]), add_adjacent(rows[2], rows[3]));
}
inline F32 joined(const F32 (&fours)[lanes / 4]) {
  // Quarters 0 + 2 and 1 + 3 of each, then those two.
  const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x44),
                                 _mm512_shuffle_f32x4(fours[0], fours[1], 0xee));
  const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x44),
                                 _mm512_shuffle_f32x4(fours[2], fours[3], 0xee));
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

inline I32 add(I32 a, I32 b) { return {_mm512_add_epi32(a.value, b.value)}; }
inline F32 to_float(I32 a) { return _mm512_cvtepi32_ps(a.value); }
template <int multiple>
inline I32 subtract_multiple(I32 a, int32_t x) {
  const __m512i product = _mm512_mullo_epi32(_mm512_set1_epi32(x), _mm512_set1_epi32(multiple));
  return {_mm512_sub_epi32(a.value, product)};
}

using Bytes = __m512i;
inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline void store_bytes(uint8_t* p, Bytes x) { _mm512_storeu_si512(p, x); }
inline Bytes shift_right(Bytes x, int bits) { return _mm512_srli_epi16(x, bits); }
template <int width>
inline Bytes low_bits_of(Bytes x) {
  return _mm512_and_si512(x, _mm512_set1_epi8((1 << width) - 1));
}
template <int bits>
inline Bytes shift_left(Bytes x) {
  return _mm512_slli_epi16(x, bits);
}
inline Bytes bit_or(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
inline Bytes look_up(const uint8_t* table, Bytes indices) {
  return _mm512_shuffle_epi8(load_bytes(table), indices);
}
inline F32 load_int8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

inline int32_t multiplier_word(int32_t multiplier) { return multiplier; }

template <typename Format>
inline I32 products(Bytes first, Bytes second, const int8_t* x_first, const int8_t* x_second,
                    int32_t multiplier) {
  __m512i sums =
      _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, _mm512_set1_epi32(four_codes(x_first)));
  sums = _mm512_dpbusd_epi32(sums, second, _mm512_set1_epi32(four_codes(x_second)));
  return {_mm512_mullo_epi32(sums, _mm512_set1_epi32(multiplier))};
}

struct Pairs {
  __m512i value;
};
inline Pairs pair_products(Bytes codes, const int8_t* x) {
  return {_mm512_maddubs_epi16(codes, _mm512_set1_epi32(four_codes(x)))};
}
inline Pairs add(Pairs a, Pairs b) { return {_mm512_add_epi16(a.value, b.value)}; }
inline I32 add_products(I32 total, Pairs sums, int32_t multipliers) {
  return {_mm512_dpwssd_epi32(total.value, sums.value, _mm512_set1_epi32(multipliers))};
}
inline I32 no_products() { return {_mm512_setzero_si512()}; }

}  // namespace rocmforge::avx512
