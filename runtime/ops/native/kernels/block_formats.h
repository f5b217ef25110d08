// How each GGML block format is read: integer codes, and scales and perhaps minimums of them.
//
// weight = scale * (code - zero_point) + minimum, with scale = unit * sub-scale exactly in float32.
// The layouts are ggml's (ggml-common.h); a block's part is 32 of its columns.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// What a format says of itself, and what most say.
struct IntegerFormat {
  static constexpr int low_bits = 4;   // bits of a packed code: 1, 2, 4 or 8,
  static constexpr int high_bits = 0;  // and 1 or 2 more on top
  static constexpr bool is_signed = false;
  static constexpr bool has_table = false;  // packed codes are indices of `table`, 16 values
  static constexpr int zero_point = 0;
  static constexpr int scales = 1;  // per part: 1, or 2 of 16 columns each
  static constexpr bool has_minimum = false;
  static constexpr bool has_sub_scales = false;  // int8, else the unit is the scale,
  static constexpr bool small_floats = false;    // or numbers of 4 exponent and 3 mantissa bits
  static constexpr float unit_factor = 1;        // a power of two
  static constexpr bool bfloat_units = false;    // else float16

  static constexpr int table_value(int) { return 0; }
  static Half unit(const uint8_t* block) { return half_at(block); }
  static Half minimum_unit(const uint8_t*) { return 0; }
  static int sub_scale(const uint8_t*, int, int) { return 1; }
  static int sub_minimum(const uint8_t*, int, int) { return 0; }

 protected:
  static Half half_at(const uint8_t* p) {
    Half half;
    std::memcpy(&half, p, sizeof half);
    return half;
  }
  // 16 bytes: codes 0..15 in the low halves, 16..31 in the high ones.
  static void nibbles(const uint8_t* p, uint8_t* codes) {
    for (int i = 0; i < 16; ++i) {
      codes[i] = p[i] & 15;
      codes[i + 16] = p[i] >> 4;
    }
  }
  // 32 bytes, of which every one holds `bits` of a code at `shift`.
  static void fields(const uint8_t* p, int shift, int bits, uint8_t* codes) {
    for (int i = 0; i < 32; ++i) {
      codes[i] = static_cast<uint8_t>(p[i] >> shift & ((1 << bits) - 1));
    }
  }
  // Adds bit `shift` of 32 bytes on top of codes of `bits`.
  static void add_fields(const uint8_t* p, int shift, int width, int bits, uint8_t* codes) {
    for (int i = 0; i < 32; ++i) {
      codes[i] |= static_cast<uint8_t>((p[i] >> shift & ((1 << width) - 1)) << bits);
    }
  }
  // Adds bit i of 4 bytes on top of code i of 4 bits.
  static void add_fifth_bits(const uint8_t* p, uint8_t* codes) {
    for (int i = 0; i < 32; ++i) {
      codes[i] |= static_cast<uint8_t>((p[i / 8] >> i % 8 & 1) << 4);
    }
  }
};

struct Q4_0 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q4_0);
  static constexpr int zero_point = 8;

  static void codes(const uint8_t* block, int, uint8_t* codes) { nibbles(block + 2, codes); }
};

struct Q4_1 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q4_1);
  static constexpr bool has_minimum = true;

  static void codes(const uint8_t* block, int, uint8_t* codes) { nibbles(block + 4, codes); }
  static Half minimum_unit(const uint8_t* block) { return half_at(block + 2); }
};

struct Q5_0 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q5_0);
  static constexpr int high_bits = 1;
  static constexpr int zero_point = 16;

  static void codes(const uint8_t* block, int, uint8_t* codes) {
    nibbles(block + 6, codes);
    add_fifth_bits(block + 2, codes);
  }
};

struct Q5_1 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q5_1);
  static constexpr int high_bits = 1;
  static constexpr bool has_minimum = true;

  static void codes(const uint8_t* block, int, uint8_t* codes) {
    nibbles(block + 8, codes);
    add_fifth_bits(block + 4, codes);
  }
  static Half minimum_unit(const uint8_t* block) { return half_at(block + 2); }
};

struct Q8_0 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q8_0);
  static constexpr int low_bits = 8;
  static constexpr bool is_signed = true;

  static void codes(const uint8_t* block, int, uint8_t* codes) {
    std::memcpy(codes, block + 2, 32);
  }
};

// 16 sub-scales (low halves) and minimums (high halves), 64 bytes of 2-bit codes, d, dmin.
struct Q2_K : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q2_k);
  static constexpr int low_bits = 2;
  static constexpr int scales = 2;
  static constexpr bool has_minimum = true;
  static constexpr bool has_sub_scales = true;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    fields(block + 16 + part / 4 * 32, part % 4 * 2, 2, codes);
  }
  static Half unit(const uint8_t* block) { return half_at(block + 80); }
  static Half minimum_unit(const uint8_t* block) { return half_at(block + 82); }
  static int sub_scale(const uint8_t* block, int part, int half) {
    return block[2 * part + half] & 15;
  }
  static int sub_minimum(const uint8_t* block, int part, int half) {
    return -(block[2 * part + half] >> 4);
  }
};

// 32 bytes of third bits, 64 of 2-bit codes, 12 of 6-bit sub-scales, d.
struct Q3_K : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q3_k);
  static constexpr int low_bits = 2;
  static constexpr int high_bits = 1;
  static constexpr int zero_point = 4;
  static constexpr int scales = 2;
  static constexpr bool has_sub_scales = true;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    fields(block + 32 + part / 4 * 32, part % 4 * 2, 2, codes);
    add_fields(block, part, 1, 2, codes);
  }
  static Half unit(const uint8_t* block) { return half_at(block + 108); }
  static int sub_scale(const uint8_t* block, int part, int half) {
    const uint8_t* packed = block + 96;
    const int i = 2 * part + half;
    const int low = packed[i % 8] >> (i / 8 * 4) & 15;
    return (low | (packed[8 + i % 4] >> (i / 4 * 2) & 3) << 4) - 32;
  }
};

// d, dmin, 12 bytes of 6-bit sub-scales and minimums, then the codes.
struct Q4_K : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q4_k);
  static constexpr bool has_minimum = true;
  static constexpr bool has_sub_scales = true;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    fields(block + 16 + part / 2 * 32, part % 2 * 4, 4, codes);
  }
  static Half minimum_unit(const uint8_t* block) { return half_at(block + 2); }
  static int sub_scale(const uint8_t* block, int part, int) {
    const uint8_t* packed = block + 4;
    if (part < 4) return packed[part] & 63;
    return (packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4;
  }
  static int sub_minimum(const uint8_t* block, int part, int) {
    const uint8_t* packed = block + 4;
    if (part < 4) return -(packed[part + 4] & 63);
    return -(packed[part + 4] >> 4 | (packed[part] >> 6) << 4);
  }
};

// As Q4_K, with 32 bytes of fifth bits before the codes.
struct Q5_K : Q4_K {
  static constexpr BlockShape shape = block_shape(BlockFormat::q5_k);
  static constexpr int high_bits = 1;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    fields(block + 48 + part / 2 * 32, part % 2 * 4, 4, codes);
    add_fields(block + 16, part, 1, 4, codes);
  }
};

// 128 bytes of low halves, 64 of upper 2 bits, 16 signed sub-scales, d.
struct Q6_K : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q6_k);
  static constexpr int high_bits = 2;
  static constexpr int zero_point = 32;
  static constexpr int scales = 2;
  static constexpr bool has_sub_scales = true;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    const int side = part / 4, quarter = part % 4;
    fields(block + side * 64 + quarter % 2 * 32, quarter / 2 * 4, 4, codes);
    add_fields(block + 128 + side * 32, quarter * 2, 2, 4, codes);
  }
  static Half unit(const uint8_t* block) { return half_at(block + 208); }
  static int sub_scale(const uint8_t* block, int part, int half) {
    return static_cast<int8_t>(block[192 + 2 * part + half]);
  }
};

constexpr int8_t nonlinear_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

struct IQ4_NL : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq4_nl);
  static constexpr bool is_signed = true;
  static constexpr bool has_table = true;

  static constexpr int table_value(int index) { return nonlinear_values[index]; }
  static void codes(const uint8_t* block, int, uint8_t* codes) { nibbles(block + 2, codes); }
};

// d, 2 bytes of upper and 4 of lower bits of 6-bit sub-scales, then the codes.
struct IQ4_XS : IQ4_NL {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq4_xs);
  static constexpr bool has_sub_scales = true;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    nibbles(block + 8 + part * 16, codes);
  }
  static int sub_scale(const uint8_t* block, int part, int) {
    const int low = block[4 + part / 2] >> (part % 2 * 4) & 15;
    return (low | (half_at(block + 2) >> (2 * part) & 3) << 4) - 32;
  }
};

// An exponent, then codes of 1 sign, 2 exponent and 1 mantissa bits (doubled here).
struct MXFP4 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::mxfp4);
  static constexpr bool has_table = true;
  static constexpr int zero_point = 12;
  static constexpr bool bfloat_units = true;

  static constexpr int table_value(int index) {
    constexpr int magnitudes[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    return zero_point + (index < 8 ? magnitudes[index] : -magnitudes[index - 8]);
  }
  static void codes(const uint8_t* block, int, uint8_t* codes) { nibbles(block + 1, codes); }
  // 2^(exponent - 128), which bfloat16 holds down to its subnormals.
  static Half unit(const uint8_t* block) {
    const int exponent = block[0];
    return static_cast<Half>(exponent < 2 ? 0x20 << exponent : (exponent - 1) << 7);
  }
};

// Four scales of 4 exponent and 3 mantissa bits, then 16 codes as MXFP4's behind each other.
struct NVFP4 : MXFP4 {
  static constexpr BlockShape shape = block_shape(BlockFormat::nvfp4);
  static constexpr int scales = 2;
  static constexpr bool has_sub_scales = true;
  static constexpr bool small_floats = true;
  static constexpr float unit_factor = 128;  // of the exponents, and half for the doubled codes
  static constexpr bool bfloat_units = false;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = block[4 + part * 16 + i / 16 * 8 + i % 8];
      codes[i] = i / 8 % 2 == 0 ? byte & 15 : byte >> 4;
    }
  }
  static Half unit(const uint8_t*) { return 0x3c00; }
  // The sign is not read, and the largest number without one stands for 0.
  static int sub_scale(const uint8_t* block, int part, int half) {
    const int stored = block[2 * part + half];
    return stored == 0x7f ? 0 : stored & 0x7f;
  }
};

// d, then a sign of each of 128 columns.
struct Q1_0 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::q1_0);
  static constexpr int low_bits = 1;
  static constexpr bool has_table = true;
  static constexpr int zero_point = 1;

  static constexpr int table_value(int index) { return index == 0 ? 0 : 2; }
  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 32; ++i) codes[i] = block[2 + 4 * part + i / 8] >> i % 8 & 1;
  }
};

// Five codes of three values in a byte: 32 bytes, 16 bytes, then 4 of four; d.
struct TQ1_0 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::tq1_0);
  static constexpr int low_bits = 2;
  static constexpr int zero_point = 1;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 32; ++i) codes[i] = code(block, 32 * part + i);
  }
  static Half unit(const uint8_t* block) { return half_at(block + 52); }

 private:
  static uint8_t code(const uint8_t* block, int column) {
    constexpr int powers[5] = {1, 3, 9, 27, 81};
    int byte = column % 32, power = column / 32;
    if (column >= 240) {
      byte = 48 + (column - 240) % 4, power = (column - 240) / 4;
    } else if (column >= 160) {
      byte = 32 + (column - 160) % 16, power = (column - 160) / 16;
    }
    const int shifted = block[byte] * powers[power] & 255;
    return static_cast<uint8_t>(shifted * 3 >> 8);
  }
};

struct TQ2_0 : IntegerFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::tq2_0);
  static constexpr int low_bits = 2;
  static constexpr int zero_point = 1;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    fields(block + part / 4 * 32, part % 4 * 2, 2, codes);
  }
  static Half unit(const uint8_t* block) { return half_at(block + 64); }
};

// A sub-scale as it is stored, as a number: the bits of a small float are those of a float16.
template <typename Format>
inline float sub_value(int stored) {
  if constexpr (Format::small_floats) return float_of_half(static_cast<Half>(stored << 7));
  return static_cast<float>(stored);
}

// Formats that are plain numbers: `load` reads `lanes` of them as float32.
struct PlainF32 {
  using Stored = float;
  static F32 load(const Stored* p) { return ROCMFORGE_LAYER::load(p); }
};
struct PlainF16 {
  using Stored = Half;
  static F32 load(const Stored* p) { return load_half(p); }
};
struct PlainBF16 {
  using Stored = Half;
  static F32 load(const Stored* p) { return load_bfloat(p); }
};

}  // namespace rocmforge::ROCMFORGE_LAYER
