// Formats whose codes are entries of a codebook: 8 values of 2 bits, or 4 of 4 bits, and signs.
//
// The values of each are few, so packed codes are 4-bit indices of a table like any other.
#pragma once

#include "codebooks.h"

namespace rocmforge::ROCMFORGE_LAYER {

struct CodebookFormat : IntegerFormat {
  static constexpr bool has_table = true;
  static constexpr bool has_sub_scales = true;

 protected:
  static uint32_t word_at(const uint8_t* p) {
    uint32_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
  }
  static int nibble(const uint8_t* p, int index) { return p[index / 2] >> (index % 2 * 4) & 15; }
  // The sign bits encoded by 7 bits: their parity is the eighth.
  static int even_signs(uint32_t bits) {
    bits &= 127;
    return static_cast<int>(bits | (__builtin_popcount(bits) & 1u) << 7);
  }
  // 8 codes: the entry's magnitudes, with `negative` added under a sign bit.
  static void entry_of_8(uint16_t entry, int signs, int negative, uint8_t* codes) {
    for (int i = 0; i < 8; ++i) {
      codes[i] = static_cast<uint8_t>((entry >> 2 * i & 3) + (signs >> i & 1 ? negative : 0));
    }
  }
  static void entry_of_4(uint16_t entry, int signs, int negative, uint8_t* codes) {
    for (int i = 0; i < 4; ++i) {
      codes[i] = static_cast<uint8_t>((entry >> 4 * i & 15) + (signs >> i & 1 ? negative : 0));
    }
  }
};

// Magnitudes 8, 25 and 43.
struct TwoBitCodebook : CodebookFormat {
  static constexpr bool is_signed = true;
  static constexpr float unit_factor = 0.125f;

  static constexpr int table_value(int index) {
    constexpr int magnitudes[4] = {8, 25, 43, 0};
    return index < 4 ? magnitudes[index] : -magnitudes[index % 4];
  }
};

// d; a part has 4 entries, then 4 times 7 bits of signs and 4 of scale.
struct IQ2_XXS : TwoBitCodebook {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq2_xxs);

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    const uint8_t* entries = block + 2 + 8 * part;
    const uint32_t signs = word_at(entries + 4);
    for (int i = 0; i < 4; ++i) {
      entry_of_8(iq2_xxs_codebook[entries[i]], even_signs(signs >> 7 * i), 4, codes + 8 * i);
    }
  }
  static int sub_scale(const uint8_t* block, int part, int) {
    return static_cast<int>(2 * (word_at(block + 6 + 8 * part) >> 28) + 1);
  }
};

// d, 32 entries of 9 bits with 7 of signs, 16 scales of 4 bits.
struct IQ2_XS : TwoBitCodebook {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq2_xs);
  static constexpr int scales = 2;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 4; ++i) {
      const uint32_t entry = half_at(block + 2 + 8 * part + 2 * i);
      entry_of_8(iq2_xs_codebook[entry & 511], even_signs(entry >> 9), 4, codes + 8 * i);
    }
  }
  static int sub_scale(const uint8_t* block, int part, int half) {
    return 2 * nibble(block + 66, 2 * part + half) + 1;
  }
};

// d, 32 bytes of entries, 32 of signs, 8 of upper bits of entries, 16 scales of 4 bits.
struct IQ2_S : TwoBitCodebook {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq2_s);
  static constexpr int scales = 2;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 4; ++i) {
      const int entry = block[2 + 4 * part + i] | (block[66 + part] >> 2 * i & 3) << 8;
      entry_of_8(iq2_s_codebook[entry], block[34 + 4 * part + i], 4, codes + 8 * i);
    }
  }
  static int sub_scale(const uint8_t* block, int part, int half) {
    return 2 * nibble(block + 74, 2 * part + half) + 1;
  }
};

// d, 64 entries, then for each part 4 times 7 bits of signs and 4 of scale.
struct IQ3_XXS : CodebookFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq3_xxs);
  static constexpr bool is_signed = true;
  static constexpr float unit_factor = 0.25f;

  static constexpr int table_value(int index) {
    const int magnitude = index % 8 == 7 ? 62 : 4 + 8 * (index % 8);
    return index < 8 ? magnitude : -magnitude;
  }
  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    const uint32_t signs = word_at(block + 66 + 4 * part);
    for (int i = 0; i < 8; ++i) {
      const int of_entry = even_signs(signs >> 7 * (i / 2)) >> i % 2 * 4;
      entry_of_4(iq3_xxs_codebook[block[2 + 8 * part + i]], of_entry, 8, codes + 4 * i);
    }
  }
  static int sub_scale(const uint8_t* block, int part, int) {
    return static_cast<int>(2 * (word_at(block + 66 + 4 * part) >> 28) + 1);
  }
};

// d, 64 bytes of entries, 8 of their upper bits, 32 of signs, 8 scales of 4 bits.
struct IQ3_S : CodebookFormat {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq3_s);
  static constexpr int zero_point = 15;

  static constexpr int table_value(int index) {
    const int magnitude = 2 * (index % 8) + 1;
    return zero_point + (index < 8 ? magnitude : -magnitude);
  }
  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 8; ++i) {
      const int entry = block[2 + 8 * part + i] | (block[66 + part] >> i & 1) << 8;
      const int signs = block[74 + 4 * part + i / 2] >> i % 2 * 4;
      entry_of_4(iq3_s_codebook[entry], signs, 8, codes + 4 * i);
    }
  }
  static int sub_scale(const uint8_t* block, int part, int) {
    return 2 * nibble(block + 106, part) + 1;
  }
};

// Values -1, 0 and 1, all moved up or down by an eighth.
struct OneBitCodebook : CodebookFormat {
  static constexpr int zero_point = 9;
  static constexpr float unit_factor = 0.125f;

  static constexpr int table_value(int index) {
    return zero_point + 8 * (index / 2 % 4 - 1) + (index % 2 == 0 ? 1 : -1);
  }

 protected:
  static void shifted_entry(int entry, bool down, uint8_t* codes) {
    for (int i = 0; i < 8; ++i) {
      codes[i] = static_cast<uint8_t>((iq1_codebook[entry] >> 2 * i & 3) * 2 + (down ? 1 : 0));
    }
  }
};

// d, 32 bytes of entries; a part has 2 bytes: 4 times 3 upper bits, 3 of scale, the shift.
struct IQ1_S : OneBitCodebook {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq1_s);

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    const int upper = half_at(block + 34 + 2 * part);
    for (int i = 0; i < 4; ++i) {
      const int entry = block[2 + 4 * part + i] | (upper >> 3 * i & 7) << 8;
      shifted_entry(entry, (upper & 0x8000) != 0, codes + 8 * i);
    }
  }
  static int sub_scale(const uint8_t* block, int part, int) {
    return 2 * (half_at(block + 34 + 2 * part) >> 12 & 7) + 1;
  }
};

// 32 bytes of entries; 4 bits more for each: 3 upper ones and the shift; 4 words of 4 scales of
// 3 bits and 4 bits of d.
struct IQ1_M : OneBitCodebook {
  static constexpr BlockShape shape = block_shape(BlockFormat::iq1_m);
  static constexpr int scales = 2;

  static void codes(const uint8_t* block, int part, uint8_t* codes) {
    for (int i = 0; i < 4; ++i) {
      const int upper = nibble(block + 32, 4 * part + i);
      shifted_entry(block[4 * part + i] | (upper & 7) << 8, (upper & 8) != 0, codes + 8 * i);
    }
  }
  static Half unit(const uint8_t* block) {
    int bits = 0;
    for (int i = 0; i < 4; ++i) bits |= half_at(block + 48 + 2 * i) >> 12 << 4 * i;
    return static_cast<Half>(bits);
  }
  static int sub_scale(const uint8_t* block, int part, int half) {
    const int index = 2 * part + half;
    return 2 * (half_at(block + 48 + index / 4 * 2) >> index % 4 * 3 & 7) + 1;
  }
};

}  // namespace rocmforge::ROCMFORGE_LAYER
