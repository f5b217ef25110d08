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
inline F32 round_to_even(F32 a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 power_of_two(F32 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
// Adds neighbours, then pairs, then the halves, as `sums` does.
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

inline I32 broadcast(int32_t x) { return {_mm256_set1_epi32(x)}; }
inline I32 subtract(I32 a, I32 b) { return {_mm256_sub_epi32(a.value, b.value)}; }
inline F32 to_float(I32 a) { return _mm256_cvtepi32_ps(a.value); }

inline F32 gather_half(const uint8_t* p, int64_t stride) {
  return _mm256_cvtph_ps(gather_eight_halves(p, stride));
}

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

template <typename Format, typename Activations>
inline Products dot(Codes codes, const Activations& x) {
  return _mm256_madd_epi16(pairs<Format>(codes, load_codes(x.codes)), load_codes(x.multipliers));
}
inline I32 sums(const Products (&rows)[lanes]) { return {sums_of_eight(rows)}; }

template <typename Format>
inline void store_panel(const Codes (&rows)[lanes], uint8_t* panel) {
  __m256i groups[8];
  transpose_eight(rows, groups);
  for (int group = 0; group < 8; ++group) store_codes(panel + group * 32, groups[group]);
}

template <int bits>
struct PanelCodes {
  const uint8_t* bytes;

  __m256i group(int g) const {
    if constexpr (bits == 8) return load_codes(bytes + g * 32);
    const __m256i both = load_codes(bytes + g % 4 * 32);
    return _mm256_and_si256(g < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
  }
};

template <typename Format, int rows, int bits, typename Activations>
inline void dot_panel(PanelCodes<bits> panel, const Activations& x, I32 (&dots)[rows]) {
  // Whether an int16 can add up the products of a whole group of 8 activations.
  constexpr bool fits = 4 * 127 * Format::largest_code <= 32767;
  for (int group = 0; group < 4; ++group) {
    const __m256i first = panel.group(2 * group), second = panel.group(2 * group + 1);
    for (int m = 0; m < rows; ++m) {
      const int8_t* codes = x.codes_of(m) + group * 8;
      const __m256i a = pairs<Format>(first, _mm256_set1_epi32(four_codes(codes)));
      const __m256i b = pairs<Format>(second, _mm256_set1_epi32(four_codes(codes + 4)));
      const __m256i times = _mm256_set1_epi32(multiplier_pair(x.multipliers_of(m) + group * 4));
      __m256i wide;
      if constexpr (fits) {
        wide = _mm256_madd_epi16(_mm256_add_epi16(a, b), times);
      } else {
        wide = _mm256_add_epi32(_mm256_madd_epi16(a, times), _mm256_madd_epi16(b, times));
      }
      dots[m].value = group == 0 ? wide : _mm256_add_epi32(dots[m].value, wide);
    }
  }
}

}  // namespace rocmforge::avx2
