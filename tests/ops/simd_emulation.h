// AVX-512 intrinsics on a processor without them, for tests: SIMDe, and what its release in
// Debian 12 (0.7.4) still lacks.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

inline simde__m512 emulated_cvtph_ps(__m256i halves) {
  simde__m512_private result;
  result.m256[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
  result.m256[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
  return simde__m512_from_private(result);
}
#define _mm512_cvtph_ps(halves) emulated_cvtph_ps(halves)

template <int rounding>
inline __m256i emulated_cvtps_ph(simde__m512 values) {
  const simde__m512_private parts = simde__m512_to_private(values);
  return _mm256_setr_m128i(_mm256_cvtps_ph(parts.m256[0], rounding),
                           _mm256_cvtps_ph(parts.m256[1], rounding));
}
#define _mm512_cvtps_ph(values, rounding) emulated_cvtps_ph<rounding>(values)

inline simde__m512i emulated_cvtepu16_epi32(__m256i words) {
  simde__m512i_private result;
  result.m256i[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
  result.m256i[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
  return simde__m512i_from_private(result);
}
#define _mm512_cvtepu16_epi32(words) emulated_cvtepu16_epi32(words)

inline simde__m512i emulated_cvtps_epi32(simde__m512 values) {
  const simde__m512_private parts = simde__m512_to_private(values);
  simde__m512i_private result;
  result.m256i[0] = _mm256_cvtps_epi32(parts.m256[0]);
  result.m256i[1] = _mm256_cvtps_epi32(parts.m256[1]);
  return simde__m512i_from_private(result);
}
#define _mm512_cvtps_epi32(values) emulated_cvtps_epi32(values)

// Two 128-bit quarters of a, then two of b, chosen by two bits each.
template <int choice>
inline simde__m512i emulated_shuffle_quarters(simde__m512i a, simde__m512i b) {
  const simde__m512i_private from_a = simde__m512i_to_private(a);
  const simde__m512i_private from_b = simde__m512i_to_private(b);
  simde__m512i_private result;
  result.m128i[0] = from_a.m128i[choice & 3];
  result.m128i[1] = from_a.m128i[choice >> 2 & 3];
  result.m128i[2] = from_b.m128i[choice >> 4 & 3];
  result.m128i[3] = from_b.m128i[choice >> 6 & 3];
  return simde__m512i_from_private(result);
}
#undef _mm512_shuffle_i32x4
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_i32x4(a, b, choice) emulated_shuffle_quarters<choice>(a, b)
#define _mm512_shuffle_f32x4(a, b, choice) \
  simde_mm512_castsi512_ps(                \
      emulated_shuffle_quarters<choice>(simde_mm512_castps_si512(a), simde_mm512_castps_si512(b)))

inline simde__m512 emulated_cvtepi32_ps(simde__m512i values) {
  const simde__m512i_private parts = simde__m512i_to_private(values);
  simde__m512_private result;
  result.m256[0] = _mm256_cvtepi32_ps(parts.m256i[0]);
  result.m256[1] = _mm256_cvtepi32_ps(parts.m256i[1]);
  return simde__m512_from_private(result);
}
#define _mm512_cvtepi32_ps(values) emulated_cvtepi32_ps(values)

inline simde__m512i emulated_cvtepi8_epi32(__m128i bytes) {
  simde__m512i_private result;
  result.m256i[0] = _mm256_cvtepi8_epi32(bytes);
  result.m256i[1] = _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8));
  return simde__m512i_from_private(result);
}
#define _mm512_cvtepi8_epi32(bytes) emulated_cvtepi8_epi32(bytes)
