// What the AVX2 and the AVX-512 layer share. Included inside the namespace of a layer.

inline int32_t four_codes(const int8_t* p) {
  int32_t codes;
  std::memcpy(&codes, p, sizeof codes);
  return codes;
}

// The words of 4 rows in turn: [8][4] from [4][8].
inline void interleave(const void* const (&rows)[4], void* out) {
  for (int at = 0; at < 8; at += 4) {
    __m128i x[4];
    for (int i = 0; i < 4; ++i) {
      x[i] = _mm_loadu_si128(static_cast<const __m128i*>(rows[i]) + at / 4);
    }
    const __m128i a = _mm_unpacklo_epi32(x[0], x[1]), b = _mm_unpackhi_epi32(x[0], x[1]);
    const __m128i c = _mm_unpacklo_epi32(x[2], x[3]), d = _mm_unpackhi_epi32(x[2], x[3]);
    auto* to = static_cast<__m128i*>(out) + at;
    _mm_storeu_si128(to, _mm_unpacklo_epi64(a, c));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi64(a, c));
    _mm_storeu_si128(to + 2, _mm_unpacklo_epi64(b, d));
    _mm_storeu_si128(to + 3, _mm_unpackhi_epi64(b, d));
  }
}

// The largest absolute values of 4 groups of 8.
inline __m128 group_maxima(const __m256 (&groups)[4]) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 x[4];
  for (int i = 0; i < 4; ++i) x[i] = _mm256_andnot_ps(sign, groups[i]);
  const __m256 a = _mm256_max_ps(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));
  const __m256 b = _mm256_max_ps(_mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));
  const __m256 low = _mm256_shuffle_ps(a, b, 0x44), high = _mm256_shuffle_ps(a, b, 0xee);
  const __m256 both = _mm256_max_ps(low, high);
  return _mm_max_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
}

inline RoundedBlock round_block(const float* x, float relative, float inverse) {
  __m256 groups[4];
  for (int i = 0; i < 4; ++i) groups[i] = _mm256_loadu_ps(x + i * activation_group);
  const __m128 raised = _mm_ceil_ps(_mm_mul_ps(group_maxima(groups), _mm_set1_ps(relative)));
  const __m128 multipliers =
      _mm_min_ps(_mm_max_ps(raised, _mm_set1_ps(1.0f)), _mm_set1_ps(float{largest_multiplier}));
  const __m128 steps = _mm_div_ps(_mm_set1_ps(inverse), multipliers);
  __m256i rounded[4];
  const __m256 of_groups = _mm256_set_m128(steps, steps);
  rounded[0] = _mm256_cvtps_epi32(_mm256_mul_ps(groups[0], _mm256_permute_ps(of_groups, 0x00)));
  rounded[1] = _mm256_cvtps_epi32(_mm256_mul_ps(groups[1], _mm256_permute_ps(of_groups, 0x55)));
  rounded[2] = _mm256_cvtps_epi32(_mm256_mul_ps(groups[2], _mm256_permute_ps(of_groups, 0xaa)));
  rounded[3] = _mm256_cvtps_epi32(_mm256_mul_ps(groups[3], _mm256_permute_ps(of_groups, 0xff)));
  const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(rounded[0], rounded[1]),
                                           _mm256_packs_epi32(rounded[2], rounded[3]));
  // Packing works within 128 bits: quads 0 2 4 6 and 1 3 5 7.
  const __m256i codes =
      _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  const __m256i paired = _mm256_unpacklo_epi16(codes, _mm256_srli_si256(codes, 8));

  const __m128i whole = _mm_cvtps_epi32(multipliers);
  const __m256i twice = _mm256_castsi128_si256(_mm_or_si128(whole, _mm_slli_epi32(whole, 16)));
  const __m256i words =
      _mm256_permutevar8x32_epi32(twice, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
  const __m256i pair_sums = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
  __m256i sums = _mm256_madd_epi16(pair_sums, words);
  sums = _mm256_hadd_epi32(sums, sums);
  sums = _mm256_hadd_epi32(sums, sums);

  RoundedBlock result;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(result.codes), codes);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(result.paired_codes), paired);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(result.multipliers), whole);
  result.sums[0] = _mm256_extract_epi32(sums, 0);
  result.sums[1] = _mm256_extract_epi32(sums, 4);
  return result;
}
