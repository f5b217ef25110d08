// Rows of activations rounded to 8 bits (see ActivationBlock).
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// Bits of the largest absolute value; as integers they order as the values do, with what is not
// finite above everything.
inline uint32_t largest_bits(const float* x, int64_t count) {
  uint32_t bound = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = bits_of_float(x[i]) & 0x7fffffffu;
    bound = bits > bound ? bits : bound;
  }
  return bound;
}

// One row's rounded block into its place.
template <int rows>
inline void place_block(const RoundedBlock& from, float scale, int row, ActivationBlock<rows>& to) {
  for (int g = 0; g < 8; ++g) {
    std::memcpy(to.quads[g][row], from.codes + 4 * g, 4);
    std::memcpy(to.pairs[g][row], from.paired_codes + 4 * g, 4);
  }
  for (int group = 0; group < 4; ++group) {
    to.multipliers[group][row] = multiplier_word(from.multipliers[group]);
  }
  for (int half = 0; half < 2; ++half) {
    to.pair_multipliers[half][row] = from.multipliers[2 * half] | from.multipliers[2 * half + 1]
                                                                      << 16;
  }
  const int32_t sums[3] = {from.sums[0] + from.sums[1], from.sums[0], from.sums[1]};
  for (int span = 0; span < 3; ++span) {
    to.code_sums[span][row] = sums[span];
    to.sums[span][row] = static_cast<float>(sums[span]);
  }
  to.scales[row] = scale;
}

template <int rows>
inline void round_row(const float* x, int64_t columns, float scale, float relative, float inverse,
                      int64_t row, const QuantizedRows& out) {
  ActivationBlock<rows>* blocks = out.tile<rows>(row, columns);
  for (int64_t b = 0; b < columns / activation_block; ++b) {
    const RoundedBlock rounded = round_block(x + b * activation_block, relative, inverse);
    place_block(rounded, scale, static_cast<int>(row % rows), blocks[b]);
  }
}

inline void quantize(const float* x, int64_t columns, int64_t row, const QuantizedRows& out) {
  constexpr uint32_t infinity = 0x7f800000u;
  constexpr float steps = 127.0f * largest_multiplier;
  const uint32_t bits = largest_bits(x, columns);
  const float absmax = float_of_bits(bits);
  const bool usable = bits < infinity && absmax >= 1e-30f;
  const float relative = usable ? largest_multiplier / absmax : 0;
  const float inverse = usable ? steps / absmax : 0;
  // What is not finite makes the whole row not a number.
  const float scale = usable ? absmax / steps : float_of_bits(bits < infinity ? 0 : 0x7fc00000u);
  const auto round = out.alone ? round_row<1> : round_row<interleaved_rows>;
  round(x, columns, scale, relative, inverse, row, out);
}

}  // namespace rocmforge::ROCMFORGE_LAYER
