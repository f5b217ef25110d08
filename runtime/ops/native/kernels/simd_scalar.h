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
constexpr int tile_rows = 2;
// What the layer adds to signed codes to make them unsigned.
constexpr int signed_offset = 0;

struct F32 {
  float lane[lanes];
};
struct I32 {
  int32_t lane[lanes];
};
// The 32 codes of one block of one row.
struct Codes {
  uint8_t code[32];
};
// A dot product of 32 codes, not yet added up.
using Products = int32_t;

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
inline F32 round_to_even(F32 a) {
  return each([=](int i) { return __builtin_nearbyintf(a.lane[i]); });
}
// 2^n for whole n in -126..127.
inline F32 power_of_two(F32 n) {
  return each([=](int i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23;
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

inline I32 broadcast(int32_t x) { return {{x, x, x, x}}; }
inline I32 subtract(I32 a, I32 b) {
  for (int i = 0; i < lanes; ++i) a.lane[i] -= b.lane[i];
  return a;
}
inline F32 to_float(I32 a) {
  return each([=](int i) { return static_cast<float>(a.lane[i]); });
}

inline Codes load_codes(const void* p) {
  Codes codes;
  std::memcpy(codes.code, p, sizeof codes);
  return codes;
}
inline void store_codes(void* p, Codes codes) { std::memcpy(p, codes.code, sizeof codes); }
// 16 bytes: codes 0..15 are the low halves, 16..31 the high ones.
inline Codes load_nibbles(const uint8_t* p) {
  Codes codes;
  for (int i = 0; i < 16; ++i) {
    codes.code[i] = p[i] & 15;
    codes.code[i + 16] = p[i] >> 4;
  }
  return codes;
}

// Lane i: the float16 at p + i * stride bytes.
inline F32 gather_half(const uint8_t* p, int64_t stride) {
  return each([=](int i) { return float_of_half(p + i * stride); });
}

template <typename Format>
inline int32_t widen(uint8_t code) {
  return Format::is_signed ? static_cast<int8_t>(code) : code;
}

// The 32 codes of one block of every row of a panel, [8][lanes][4]; of 4 bits, [4][lanes][4] with
// group g + 4 in the high halves of group g.
template <int bits>
struct PanelCodes {
  const uint8_t* bytes;

  uint8_t code(int column, int lane) const {
    const int group = column / 4;
    if (bits == 8) return bytes[(group * lanes + lane) * 4 + column % 4];
    const uint8_t byte = bytes[(group % 4 * lanes + lane) * 4 + column % 4];
    return group < 4 ? byte & 15 : byte >> 4;
  }
};

// Products of 32 codes (plus signed_offset where they are signed), activations and multipliers.
template <typename Format, typename Activations>
inline Products dot(Codes codes, const Activations& x) {
  int32_t total = 0;
  for (int i = 0; i < 32; ++i) {
    total += widen<Format>(codes.code[i]) * x.codes[i] * x.multipliers[i / 2];
  }
  return total;
}
inline int32_t sum(Products products) { return products; }
// Lane i: sum(rows[i]).
inline I32 sums(const Products (&rows)[lanes]) {
  I32 result;
  std::memcpy(result.lane, rows, sizeof result);
  return result;
}

// One block of every row of a panel, laid out for dot_panel: [8][lanes][4] codes.
template <typename Format>
inline void store_panel(const Codes (&rows)[lanes], uint8_t* panel) {
  for (int group = 0; group < 8; ++group) {
    for (int i = 0; i < lanes; ++i) {
      std::memcpy(panel + (group * lanes + i) * 4, rows[i].code + group * 4, 4);
    }
  }
}

// dots[m], lane i: products of row i of the panel's block and row m of the activations.
template <typename Format, int rows, int bits, typename Activations>
inline void dot_panel(PanelCodes<bits> panel, const Activations& x, I32 (&dots)[rows]) {
  for (int m = 0; m < rows; ++m) {
    dots[m] = broadcast(int32_t{0});
    for (int k = 0; k < 32; ++k) {
      const int32_t activation = x.codes_of(m)[k] * x.multipliers_of(m)[k / 2];
      for (int i = 0; i < lanes; ++i) {
        dots[m].lane[i] += widen<Format>(panel.code(k, i)) * activation;
      }
    }
  }
}

}  // namespace rocmforge::scalar
