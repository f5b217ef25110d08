// Rows of activations rounded to 8 bits: how they are made, and how kernels walk along them.
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

inline void quantize(const float* x, int64_t columns, int64_t row, const QuantizedRows& out) {
  constexpr int groups = activation_block / activation_group;
  constexpr uint32_t infinity = 0x7f800000u;
  const int64_t blocks = columns / activation_block;
  int8_t* codes = out.codes + row * columns;
  int16_t* multipliers = out.multipliers + row * columns / 2;
  for (int64_t b = 0; b < blocks; ++b) {
    uint32_t bits[groups], all = 0;
    for (int group = 0; group < groups; ++group) {
      bits[group] = largest_bits(x + group * activation_group);
      all = bits[group] > all ? bits[group] : all;
    }
    const float absmax = float_of_bits(all);
    const bool usable = all < infinity && absmax >= 1e-30f;
    const float relative = usable ? largest_multiplier / absmax : 0;
    const float inverse = usable ? 127.0f * largest_multiplier / absmax : 0;
    int32_t total = 0;
    for (int group = 0; group < groups; ++group) {
      float multiplier = 1;
      if (usable) {
        multiplier = __builtin_ceilf(float_of_bits(bits[group]) * relative);
        multiplier = multiplier < 1 ? 1 : multiplier;
        multiplier = multiplier > largest_multiplier ? largest_multiplier : multiplier;
        const auto whole = static_cast<int32_t>(multiplier);
        total += whole * round_group(x, inverse / multiplier, codes);
      } else {
        std::memset(codes, 0, activation_group);
      }
      for (int i = 0; i < activation_group / 2; ++i) {
        multipliers[i] = static_cast<int16_t>(multiplier);
      }
      x += activation_group;
      codes += activation_group;
      multipliers += activation_group / 2;
    }
    // What is not finite makes the whole block not a number.
    float scale = usable ? absmax / (127.0f * largest_multiplier) : 0;
    if (all >= infinity) scale = float_of_bits(0x7fc00000u);
    out.scales[row * blocks + b] = scale;
    out.sums[row * blocks + b] = scale * static_cast<float>(total);
    out.code_sums[row * blocks + b] = total;
  }
}

// Consecutive rows at one block.
struct Activations {
  const int8_t* codes;
  const int16_t* multipliers;
  int64_t columns;

  const int8_t* codes_of(int m) const { return codes + m * columns; }
  const int16_t* multipliers_of(int m) const { return multipliers + m * columns / 2; }
};

inline Activations activations_at(const MatMul& args, int64_t m, int64_t b) {
  const QuantizedRows& x = args.quantized;
  return {x.codes + m * args.columns + b * activation_block,
          x.multipliers + (m * args.columns + b * activation_block) / 2, args.columns};
}

}  // namespace rocmforge::ROCMFORGE_LAYER
