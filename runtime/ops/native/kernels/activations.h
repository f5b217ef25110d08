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

// How the values of a row become codes.
struct RowScale {
  float scale;     // of a code whose multiplier is 1
  float relative;  // multipliers of a value
  float inverse;   // codes of a value whose multiplier is 1

  RowScale(const float* x, int64_t columns) {
    constexpr uint32_t infinity = 0x7f800000u;
    constexpr float steps = 127.0f * largest_multiplier;
    const uint32_t bits = largest_bits(x, columns);
    const float absmax = float_of_bits(bits);
    const bool usable = bits < infinity && absmax >= 1e-30f;
    relative = usable ? largest_multiplier / absmax : 0;
    inverse = usable ? steps / absmax : 0;
    // What is not finite makes the whole row not a number.
    scale = usable ? absmax / steps : float_of_bits(bits < infinity ? 0 : 0x7fc00000u);
  }
};

// The contents of a block besides the codes of a row.
template <int rows>
inline void place_numbers(const RoundedBlock& from, float scale, int row,
                          ActivationBlock<rows>& to) {
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
inline void round_row(const float* x, int64_t columns, int64_t row, const QuantizedRows& out) {
  const RowScale scale(x, columns);
  ActivationBlock<rows>* blocks = out.tile<rows>(row, columns);
  for (int64_t b = 0; b < columns / activation_block; ++b) {
    const RoundedBlock rounded =
        round_block(x + b * activation_block, scale.relative, scale.inverse);
    const int place = static_cast<int>(row % rows);
    for (int g = 0; g < 8; ++g) {
      std::memcpy(blocks[b].quads[g][place], rounded.codes + 4 * g, 4);
      std::memcpy(blocks[b].pairs[g][place], rounded.paired_codes + 4 * g, 4);
    }
    place_numbers(rounded, scale.scale, place, blocks[b]);
  }
}

// As round_row for the four rows of a tile, whose codes lie together.
inline void round_tile(const float* x, int64_t columns, int64_t row, const QuantizedRows& out) {
  const RowScale scales[4] = {
      {x, columns}, {x + columns, columns}, {x + 2 * columns, columns}, {x + 3 * columns, columns}};
  ActivationBlock<4>* blocks = out.tile<4>(row, columns);
  for (int64_t b = 0; b < columns / activation_block; ++b) {
    RoundedBlock rounded[4];
    for (int i = 0; i < 4; ++i) {
      rounded[i] = round_block(x + i * columns + b * activation_block, scales[i].relative,
                               scales[i].inverse);
      place_numbers(rounded[i], scales[i].scale, i, blocks[b]);
    }
    interleave({rounded[0].codes, rounded[1].codes, rounded[2].codes, rounded[3].codes},
               blocks[b].quads);
    interleave({rounded[0].paired_codes, rounded[1].paired_codes, rounded[2].paired_codes,
                rounded[3].paired_codes},
               blocks[b].pairs);
  }
}

// `count` rows at x, one behind the other, as rows `row` and on.
inline void quantize(const float* x, int64_t columns, int64_t row, int64_t count,
                     const QuantizedRows& out) {
  static_assert(interleaved_rows == 4);
  if (out.alone) return round_row<1>(x, columns, row, out);
  for (const int64_t end = row + count; row < end;) {
    const bool whole = row % 4 == 0 && end - row >= 4;
    (whole ? round_tile : round_row<4>)(x, columns, row, out);
    row += whole ? 4 : 1;
    x += (whole ? 4 : 1) * columns;
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
