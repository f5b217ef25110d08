// The SIMD layer in plain C++: four lanes that the compiler may or may not put in a register.
//
// Every layer (simd_avx2.h, simd_avx512.h) has exactly these names with these meanings.
#pragma once

#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "half.h"

namespace rocmforge::scalar {

constexpr const char* instruction_set_name = "scalar";

// Lanes of a vector; also the weight rows of one panel.
constexpr int lanes = 4;
// Activation rows that a matmul tile keeps in registers.
constexpr int tile_rows = 4;
// Queries that an attention tile keeps in registers.
constexpr int tile_queries = 3;
// From how many rows of x on a panel is unpacked first.
constexpr int unpacked_from = 9;
// What the layer adds to signed codes to make them unsigned.
constexpr int signed_offset = 0;

struct F32 {
  float lane[lanes];
};
struct I32 {
  int32_t lane[lanes];
};
// A group of 4 columns of every lane.
struct Bytes {
  uint8_t byte[lanes * 4];
};

template <typename Operation>
inline F32 each(Operation operation) {
  F32 result;
  for (int i = 0; i < lanes; ++i) result.lane[i] = operation(i);
  return result;
}

inline F32 broadcast(float x) {
  return each([=](int) { return x; });
}
inline F32 load(const float* p) {
  return each([=](int i) { return p[i]; });
}
inline void store(float* p, F32 x) { std::memcpy(p, x.lane, sizeof x); }
inline F32 load_half(const Half* p) {
  return each([=](int i) { return float_of_half(p[i]); });
}
inline void store_half(Half* p, F32 x) {
  for (int i = 0; i < lanes; ++i) p[i] = half_of_float(x.lane[i]);
}
inline F32 load_bfloat(const Half* p) {
  return each([=](int i) { return float_of_bfloat(p[i]); });
}
inline F32 add(F32 a, F32 b) {
  return each([=](int i) { return a.lane[i] + b.lane[i]; });
}
inline F32 subtract(F32 a, F32 b) {
  return each([=](int i) { return a.lane[i] - b.lane[i]; });
}
inline F32 multiply(F32 a, F32 b) {
  return each([=](int i) { return a.lane[i] * b.lane[i]; });
}
inline F32 divide(F32 a, F32 b) {
  return each([=](int i) { return a.lane[i] / b.lane[i]; });
}
// a * b + c, rounded once.
inline F32 fma(F32 a, F32 b, F32 c) {
  return each([=](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
// The larger; b where either is not a number.
inline F32 maximum(F32 a, F32 b) {
  return each([=](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F32 minimum(F32 a, F32 b) {
  return each([=](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F32 absolute(F32 a) {
  return each([=](int i) { return __builtin_fabsf(a.lane[i]); });
}
// value, but 0 where x < limit.
inline F32 zero_where_less(F32 x, F32 limit, F32 value) {
  return each([=](int i) { return x.lane[i] < limit.lane[i] ? 0.0f : value.lane[i]; });
}
// Bit i where a >= b in lane i.
inline uint32_t lanes_not_less(F32 a, F32 b) {
  uint32_t found = 0;
  for (int i = 0; i < lanes; ++i) found |= static_cast<uint32_t>(a.lane[i] >= b.lane[i]) << i;
  return found;
}
inline F32 round_to_even(F32 a) {
  return each([=](int i) { return __builtin_nearbyintf(a.lane[i]); });
}
// 2^n for whole n in -126..127; anything for what is not a number.
inline F32 power_of_two(F32 n) {
  return each([=](int i) {
    const bool is_number = n.lane[i] == n.lane[i];
    const int32_t whole = is_number ? static_cast<int32_t>(n.lane[i]) : 0;
    const uint32_t bits = static_cast<uint32_t>(whole + 127) << 23;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  });
}
inline float sum(F32 a) { return (a.lane[0] + a.lane[2]) + (a.lane[1] + a.lane[3]); }
inline float largest(F32 a) {
  const F32 half = maximum(a, F32{{a.lane[2], a.lane[3], a.lane[2], a.lane[3]}});
  return half.lane[0] > half.lane[1] ? half.lane[0] : half.lane[1];
}
// Four rows on the way to their sums, and these from `lanes` rows: lane i of joined(...) is
// sum(row i), added in the order of `sum`.
inline F32 sums_of_four(const F32* rows) {
  return each([=](int i) { return sum(rows[i]); });
}
inline F32 joined(const F32 (&fours)[lanes / 4]) { return fours[0]; }

inline I32 add(I32 a, I32 b) {
  for (int i = 0; i < lanes; ++i) a.lane[i] += b.lane[i];
  return a;
}
// a - multiple * x
template <int multiple>
inline I32 subtract_multiple(I32 a, int32_t x) {
  for (int i = 0; i < lanes; ++i) a.lane[i] -= multiple * x;
  return a;
}
inline F32 to_float(I32 a) {
  return each([=](int i) { return static_cast<float>(a.lane[i]); });
}
inline F32 load_int8(const int8_t* p) {
  return each([=](int i) { return static_cast<float>(p[i]); });
}

template <typename Operation>
inline Bytes each_byte(Operation operation) {
  Bytes result;
  for (int i = 0; i < lanes * 4; ++i) result.byte[i] = static_cast<uint8_t>(operation(i));
  return result;
}
inline Bytes load_bytes(const uint8_t* p) {
  return each_byte([=](int i) { return p[i]; });
}
inline void store_bytes(uint8_t* p, Bytes x) { std::memcpy(p, x.byte, sizeof x); }
// Bits from the next byte may come in on top: `low_bits_of` takes them away.
inline Bytes shift_right(Bytes x, int bits) {
  return each_byte([=](int i) { return x.byte[i] >> bits; });
}
template <int width>
inline Bytes low_bits_of(Bytes x) {
  return each_byte([=](int i) { return x.byte[i] & ((1 << width) - 1); });
}
// Nothing may leave a byte.
template <int bits>
inline Bytes shift_left(Bytes x) {
  return each_byte([=](int i) { return x.byte[i] << bits; });
}
inline Bytes bit_or(Bytes a, Bytes b) {
  return each_byte([=](int i) { return a.byte[i] | b.byte[i]; });
}
// table: 16 values, repeated to the length of a vector.
inline Bytes look_up(const uint8_t* table, Bytes indices) {
  return each_byte([=](int i) { return table[indices.byte[i]]; });
}

// The words of 4 rows in turn: [8][4] from [4][8].
inline void interleave(const void* const (&rows)[4], void* out) {
  for (int at = 0; at < 8; ++at) {
    for (int i = 0; i < 4; ++i) {
      std::memcpy(static_cast<int32_t*>(out) + 4 * at + i,
                  static_cast<const int32_t*>(rows[i]) + at, sizeof(int32_t));
    }
  }
}

// 32 activations rounded: codes in order and as ActivationBlock::pairs has them, multipliers of the
// groups, and sums of code * multiplier over each half.
inline RoundedBlock round_block(const float* x, float relative, float inverse) {
  RoundedBlock result;
  for (int group = 0; group < 4; ++group) {
    const float* values = x + group * activation_group;
    float largest = 0;
    for (int i = 0; i < activation_group; ++i) {
      const float magnitude = __builtin_fabsf(values[i]);
      largest = magnitude > largest ? magnitude : largest;
    }
    float multiplier = __builtin_ceilf(largest * relative);
    multiplier = multiplier > 1 ? multiplier : 1;
    multiplier = multiplier < largest_multiplier ? multiplier : largest_multiplier;
    const float steps = inverse / multiplier;
    result.multipliers[group] = static_cast<int32_t>(multiplier);
    int32_t total = 0;
    for (int i = 0; i < activation_group; ++i) {
      // Adding 1.5 * 2^23 rounds to even and leaves the integer in the low bits.
      const auto code = static_cast<int8_t>(bits_of_float(values[i] * steps + 0x1.8p23f));
      result.codes[group * activation_group + i] = code;
      result.paired_codes[group / 2 * 16 + i / 2 * 4 + group % 2 * 2 + i % 2] = code;
      total += code;
    }
    const int32_t product = total * result.multipliers[group];
    result.sums[group / 2] = group % 2 == 0 ? product : result.sums[group / 2] + product;
  }
  return result;
}

// How a multiplier is stored for `products`.
inline int32_t multiplier_word(int32_t multiplier) { return multiplier; }

// Lane i: products of 8 codes (plus signed_offset where they are signed) and 8 activations, added
// up and times the multiplier.
template <typename Format>
inline I32 products(Bytes first, Bytes second, const int8_t* x_first, const int8_t* x_second,
                    int32_t multiplier) {
  const auto code = [](uint8_t byte) {
    return Format::is_signed ? static_cast<int8_t>(byte) : int32_t{byte};
  };
  I32 result;
  for (int i = 0; i < lanes; ++i) {
    int32_t sum = 0;
    for (int k = 0; k < 4; ++k) {
      sum += code(first.byte[i * 4 + k]) * x_first[k] + code(second.byte[i * 4 + k]) * x_second[k];
    }
    result.lane[i] = sum * multiplier;
  }
  return result;
}

// Sums of products of adjacent columns, two in a lane. Those of 4 groups of codes up to 31 fit
// into 16 bits.
struct Pairs {
  int32_t pair[lanes][2];
};
inline Pairs pair_products(Bytes codes, const int8_t* x) {
  Pairs result;
  for (int i = 0; i < lanes * 2; ++i) {
    const uint8_t* two = codes.byte + 2 * i;
    result.pair[i / 2][i % 2] = two[0] * x[i % 2 * 2] + two[1] * x[i % 2 * 2 + 1];
  }
  return result;
}
inline Pairs add(Pairs a, Pairs b) {
  for (int i = 0; i < lanes; ++i) {
    a.pair[i][0] += b.pair[i][0];
    a.pair[i][1] += b.pair[i][1];
  }
  return a;
}
// total + both sums times their multipliers, the low and the high half of `multipliers`.
inline I32 add_products(I32 total, Pairs sums, int32_t multipliers) {
  for (int i = 0; i < lanes; ++i) {
    total.lane[i] +=
        sums.pair[i][0] * (multipliers & 0xffff) + sums.pair[i][1] * (multipliers >> 16);
  }
  return total;
}
inline I32 no_products() { return {}; }

}  // namespace rocmforge::scalar
