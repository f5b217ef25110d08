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
inline F32 round_to_even(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 power_of_two(F32 n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

// Lane-wise sums of neighbours of a, then of b, within each 128 bits.
inline __m512 add_neighbours(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
inline __m512i add_neighbours(__m512i a, __m512i b) {
  const __m512 even = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
  const __m512 odd = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd);
  return _mm512_add_epi32(_mm512_castps_si512(even), _mm512_castps_si512(odd));
}
inline __m128 quarter(__m512 a, bool second) {
  const __m256 half = _mm512_castps512_ps256(a);
  return second ? _mm256_extractf128_ps(half, 1) : _mm256_castps256_ps128(half);
}

// Adds neighbours, then pairs, then the quarters, as `sums` does.
inline float sum(F32 a) {
  const __m512 pairs = add_neighbours(a, a);
  const __m512 fours = add_neighbours(pairs, pairs);
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
  return add_neighbours(add_neighbours(rows[0], rows[1]), add_neighbours(rows[2], rows[3]));
}
inline F32 joined(const F32 (&fours)[lanes / 4]) {
  // Quarters 0 + 2 and 1 + 3 of each, then those two.
  const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x44),
                                 _mm512_shuffle_f32x4(fours[0], fours[1], 0xee));
  const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x44),
                                 _mm512_shuffle_f32x4(fours[2], fours[3], 0xee));
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

inline I32 broadcast(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I32 subtract(I32 a, I32 b) { return {_mm512_sub_epi32(a.value, b.value)}; }
inline F32 to_float(I32 a) { return _mm512_cvtepi32_ps(a.value); }

inline F32 gather_half(const uint8_t* p, int64_t stride) {
  const __m128i low = gather_eight_halves(p, stride);
  const __m128i high = gather_eight_halves(p + 8 * stride, stride);
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

template <typename Format>
inline __m256i unsigned_codes(__m256i codes) {
  if constexpr (!Format::is_signed) return codes;
  return _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
}

template <typename Format, typename Activations>
inline Products dot(Codes codes, const Activations& x) {
  const __m256i sums_of_four = _mm256_dpbusd_epi32(
      _mm256_setzero_si256(), unsigned_codes<Format>(codes), load_codes(x.codes));
  return _mm256_mullo_epi32(sums_of_four, _mm256_srli_epi32(load_codes(x.multipliers), 16));
}

inline I32 sums(const Products (&rows)[lanes]) {
  __m512i pairs[8];  // rows i and i + 8 side by side
  for (int i = 0; i < 8; ++i) {
    pairs[i] = _mm512_inserti64x4(_mm512_castsi256_si512(rows[i]), rows[i + 8], 1);
  }
  // Quarters: rows 0-3 (two partial sums), rows 8-11 (two); then the same of rows 4-7, 12-15.
  const __m512i a =
      add_neighbours(add_neighbours(pairs[0], pairs[1]), add_neighbours(pairs[2], pairs[3]));
  const __m512i b =
      add_neighbours(add_neighbours(pairs[4], pairs[5]), add_neighbours(pairs[6], pairs[7]));
  // 0-3, 8-11, 4-7, 12-15
  const __m512i mixed =
      _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
  return {_mm512_shuffle_i32x4(mixed, mixed, 0xd8)};
}

template <typename Format>
inline void store_panel(const Codes (&rows)[lanes], uint8_t* panel) {
  for (int half = 0; half < 2; ++half) {
    __m256i groups[8];
    transpose_eight(rows + half * 8, groups);
    for (int group = 0; group < 8; ++group) {
      store_codes(panel + group * 64 + half * 32, unsigned_codes<Format>(groups[group]));
    }
  }
}

template <int bits>
struct PanelCodes {
  const uint8_t* bytes;

  __m512i group(int g) const {
    if constexpr (bits == 8) return _mm512_loadu_si512(bytes + g * 64);
    const __m512i both = _mm512_loadu_si512(bytes + g % 4 * 64);
    return _mm512_and_si512(g < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
  }
};

template <typename Format, int rows, int bits, typename Activations>
inline void dot_panel(PanelCodes<bits> panel, const Activations& x, I32 (&dots)[rows]) {
  for (int group = 0; group < 4; ++group) {
    const __m512i first = panel.group(2 * group), second = panel.group(2 * group + 1);
    for (int m = 0; m < rows; ++m) {
      const int8_t* codes = x.codes_of(m) + group * 8;
      __m512i sums =
          _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, _mm512_set1_epi32(four_codes(codes)));
      sums = _mm512_dpbusd_epi32(sums, second, _mm512_set1_epi32(four_codes(codes + 4)));
      const __m512i wide =
          _mm512_mullo_epi32(sums, _mm512_set1_epi32(x.multipliers_of(m)[group * 4]));
      dots[m].value = group == 0 ? wide : _mm512_add_epi32(dots[m].value, wide);
    }
  }
}

}  // namespace rocmforge::avx512
