// Rows of activations rounded to 8 bits (see ActivationBlock).
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// Bits of the largest absolute value of a group; as integers they order as the values do, with
// what is not finite above everything.
inline uint32_t largest_bits(const float* x) {
  uint32_t bound = 0;
  for (int i = 0; i < activation_group; ++i) {
    const uint32_t bits = bits_of_float(x[i]) & 0x7fffffffu;
    bound = bits > bound ? bits : bound;
  }
  return bound;
}

// Rounds a group to multiples of 1 / inverse; returns the sum of the codes.
inline int32_t round_group(const float* x, float inverse, int8_t* codes) {
  int32_t total = 0;
  for (int i = 0; i < activation_group; ++i) {
    // Adding 1.5 * 2^23 rounds to even and leaves the integer in the low bits.
    const auto code = static_cast<int32_t>(bits_of_float(x[i] * inverse + 0x1.8p23f) - 0x4b400000u);
    codes[i] = static_cast<int8_t>(code);
    total += code;
  }
  return total;
}

// One row's 32 columns into its place in a block.
inline void quantize_block(const float* x, int row, ActivationBlock& out) {
  constexpr int groups = activation_block / activation_group;
  constexpr uint32_t infinity = 0x7f800000u;
  uint32_t bits[groups], all = 0;
  for (int group = 0; group < groups; ++group) {
    bits[group] = largest_bits(x + group * activation_group);
    all = bits[group] > all ? bits[group] : all;
  }
  const float absmax = float_of_bits(all);
  const bool usable = all < infinity && absmax >= 1e-30f;
  const float relative = usable ? largest_multiplier / absmax : 0;
  const float inverse = usable ? 127.0f * largest_multiplier / absmax : 0;
  int32_t sums[3] = {};  // of all columns, of the first half, of the second
  for (int group = 0; group < groups; ++group) {
    float multiplier = 1;
    int8_t codes[activation_group] = {};
    if (usable) {
      multiplier = __builtin_ceilf(float_of_bits(bits[group]) * relative);
      multiplier = multiplier < 1 ? 1 : multiplier;
      multiplier = multiplier > largest_multiplier ? largest_multiplier : multiplier;
      const auto whole = static_cast<int32_t>(multiplier);
      sums[1 + group / 2] +=
          whole * round_group(x + group * activation_group, inverse / multiplier, codes);
    }
    std::memcpy(out.codes[2 * group][row], codes, 4);
    std::memcpy(out.codes[2 * group + 1][row], codes + 4, 4);
    out.multipliers[group][row] = multiplier_word(static_cast<int32_t>(multiplier));
  }
  sums[0] = sums[1] + sums[2];
  // What is not finite makes the whole block not a number.
  float scale = usable ? absmax / (127.0f * largest_multiplier) : 0;
  if (all >= infinity) scale = float_of_bits(0x7fc00000u);
  out.scales[row] = scale;
  for (int span = 0; span < 3; ++span) {
    out.sums[span][row] = scale * static_cast<float>(sums[span]);
    out.code_sums[span][row] = sums[span];
  }
}

inline void quantize(const float* x, int64_t columns, int64_t row, const QuantizedRows& out) {
  const int64_t blocks = columns / activation_block;
  ActivationBlock* block = out.blocks + row / interleaved_rows * blocks;
  for (int64_t b = 0; b < blocks; ++b) {
    quantize_block(x + b * activation_block, static_cast<int>(row % interleaved_rows), block[b]);
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
