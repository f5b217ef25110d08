// Weights rewritten so that kernels read them at the speed of the memory.
//
// A panel is `lanes` weight rows; a packed block holds, for each part of 32 columns, planes of code
// bits and the int8 sub-scales and sub-minimums [scales][lanes]; behind its parts the units [lanes]
// and the minimums' units [lanes]. A panel's 32 columns are 8 groups [lanes][4 columns]; in a plane
// of w bits group g lies in vector g % w, shifted by g / w * w. Which 4 columns make a group says
// `column_at`. The same bits a weight as in the file; rows that fill up the last panel are zero.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

constexpr int64_t group_bytes = lanes * 4;

template <typename Format>
constexpr int largest_code() {
  if (!Format::has_table) return (1 << (Format::low_bits + Format::high_bits)) - 1;
  int largest = 0;
  for (int i = 0; i < 16; ++i) {
    if (Format::table_value(i) > largest) largest = Format::table_value(i);
  }
  return largest;
}
// Whether 16 bits hold the sum of 8 products of codes and activations: 8 * 31 * 127 do. Multipliers
// then cost a quarter of what they cost at 32 bits.
template <typename Format>
constexpr bool is_narrow = !Format::is_signed && largest_code<Format>() <= 31;

// The column that stands at a place of a part's groups: 4 adjacent ones make a group, but of narrow
// codes 2 adjacent ones of 8 columns and 2 of the next 8.
template <typename Format>
constexpr int column_at(int place) {
  if (!is_narrow<Format>) return place;
  return place / 16 * 16 + place / 2 % 2 * 8 + place / 4 % 4 * 2 + place % 2;
}

// Bits of group g in a plane of `width` bits.
template <int width>
inline Bytes from_plane(const uint8_t* plane, int g) {
  const Bytes all = load_bytes(plane + g % width * group_bytes);
  if constexpr (width == 8) return all;
  return low_bits_of<width>(shift_right(all, g / width * width));
}

// The values of a format's packed codes, repeated over a vector.
template <typename Format>
struct CodeTable {
  alignas(64) uint8_t values[group_bytes];
  constexpr CodeTable() : values() {
    for (int i = 0; i < group_bytes; ++i) {
      const int offset = Format::is_signed ? signed_offset : 0;
      values[i] = static_cast<uint8_t>(Format::table_value(i % 16) + offset);
    }
  }
};
template <typename Format>
constexpr CodeTable<Format> code_table;

template <typename Format>
inline F32 units_at(const uint8_t* p) {
  const auto* stored = reinterpret_cast<const Half*>(p);
  const F32 units = Format::bfloat_units ? load_bfloat(stored) : load_half(stored);
  return Format::unit_factor == 1 ? units : multiply(units, broadcast(Format::unit_factor));
}

template <typename Format>
inline float unit_of(Half stored) {
  return (Format::bfloat_units ? float_of_bfloat(stored) : float_of_half(stored)) *
         Format::unit_factor;
}

template <typename Format>
struct PackedBlock {
  static constexpr int64_t parts = Format::shape.columns / activation_block;
  static constexpr int64_t low_bytes = Format::low_bits * group_bytes;
  static constexpr int64_t code_bytes = low_bytes + Format::high_bits * group_bytes;
  static constexpr int64_t sub_bytes = Format::has_sub_scales ? Format::scales * lanes : 0;
  static constexpr int64_t part_bytes = code_bytes + sub_bytes * (Format::has_minimum ? 2 : 1);
  static constexpr int64_t units_at = parts * part_bytes;
  static constexpr int64_t bytes = units_at + lanes * (Format::has_minimum ? 4 : 2);
};

// One part of a packed block, as the matmul's tiles read it.
template <typename Format>
struct PackedPart {
  using Block = PackedBlock<Format>;
  static constexpr bool in_memory = true;  // else in the cache
  const uint8_t* part;
  const uint8_t* units;

  Bytes group(int g) const {
    Bytes codes = from_plane<Format::low_bits>(part, g);
    if constexpr (Format::high_bits != 0) {
      const Bytes high = from_plane<Format::high_bits>(part + Block::low_bytes, g);
      codes = bit_or(codes, shift_left<Format::low_bits>(high));
    }
    if constexpr (Format::has_table) codes = look_up(code_table<Format>.values, codes);
    return codes;
  }
  F32 scales(int half) const {
    const F32 all = units_at<Format>(units);
    return Format::has_sub_scales ? multiply(all, sub_values(half)) : all;
  }
  F32 minimums(int half) const {
    const F32 all = units_at<Format>(units + lanes * sizeof(Half));
    return Format::has_sub_scales ? multiply(all, sub_values(Format::scales + half)) : all;
  }
  // One row of activations waits for memory alone: it asks for the second-level cache, since the
  // first has few places for lines under way. Several wait for the multiplications.
  template <int rows>
  void prefetch() const {
    constexpr int64_t ahead = rows == 1 ? 1280 : 2560, line = 64;
    const auto from = reinterpret_cast<uintptr_t>(part) + ahead;
    for (int64_t at = 0; at < Block::part_bytes; at += line) {
      __builtin_prefetch(reinterpret_cast<const void*>(from + at), 0, rows == 1 ? 2 : 3);
    }
  }

 private:
  F32 sub_values(int index) const {
    const uint8_t* stored = part + Block::code_bytes + index * lanes;
    if constexpr (Format::small_floats) {
      Half halves[lanes];
      for (int i = 0; i < lanes; ++i) halves[i] = static_cast<Half>(stored[i] << 7);
      return load_half(halves);
    }
    return load_int8(reinterpret_cast<const int8_t*>(stored));
  }
};

template <typename Format>
struct PackedPanel {
  using Block = PackedBlock<Format>;
  const uint8_t* blocks;

  PackedPanel(const MatMul& args, int64_t panel)
      : blocks(args.weights + panel * (args.columns / Format::shape.columns) * Block::bytes) {}

  PackedPart<Format> at(int64_t b) const {
    const uint8_t* block = blocks + b / Block::parts * Block::bytes;
    return {block + b % Block::parts * Block::part_bytes, block + Block::units_at};
  }
};

// Adds a row's 32 codes to the planes of a part that is zero.
template <typename Format>
inline void add_codes(const uint8_t* codes, int lane, uint8_t* part) {
  constexpr int low = Format::low_bits, high = Format::high_bits;
  constexpr uint8_t offset = Format::is_signed && !Format::has_table ? signed_offset : 0;
  for (int i = 0; i < activation_block; ++i) {
    const int g = i / 4;
    const int64_t within = lane * 4 + i % 4;
    const auto code = static_cast<uint8_t>(codes[column_at<Format>(i)] + offset);
    part[g % low * group_bytes + within] |=
        static_cast<uint8_t>((code & ((1 << low) - 1)) << g / low * low);
    if constexpr (high != 0) {
      part[PackedBlock<Format>::low_bytes + g % high * group_bytes + within] |=
          static_cast<uint8_t>(code >> low << g / high * high);
    }
  }
}

template <typename Format>
inline void pack_row(const uint8_t* block, int lane, uint8_t* packed) {
  using Block = PackedBlock<Format>;
  for (int part = 0; part < Block::parts; ++part) {
    uint8_t* target = packed + part * Block::part_bytes;
    uint8_t codes[activation_block];
    Format::codes(block, part, codes);
    add_codes<Format>(codes, lane, target);
    if constexpr (Format::has_sub_scales) {
      for (int half = 0; half < Format::scales; ++half) {
        uint8_t* subs = target + Block::code_bytes + half * lanes + lane;
        subs[0] = static_cast<uint8_t>(Format::sub_scale(block, part, half));
        if constexpr (Format::has_minimum) {
          subs[Block::sub_bytes] = static_cast<uint8_t>(Format::sub_minimum(block, part, half));
        }
      }
    }
  }
  auto* units = reinterpret_cast<Half*>(packed + Block::units_at);
  units[lane] = Format::unit(block);
  if constexpr (Format::has_minimum) units[lanes + lane] = Format::minimum_unit(block);
}

template <typename Format>
inline void pack_rows(const uint8_t* weights, int64_t rows, int64_t columns, uint8_t* packed) {
  constexpr int64_t bytes = PackedBlock<Format>::bytes;
  const int64_t blocks = columns / Format::shape.columns;
  for (int64_t n = 0; n < rows; n += lanes) {
    for (int64_t b = 0; b < blocks; ++b, packed += bytes) {
      std::memset(packed, 0, bytes);
      for (int lane = 0; lane < lanes && n + lane < rows; ++lane) {
        pack_row<Format>(weights + ((n + lane) * blocks + b) * Format::shape.bytes, lane, packed);
      }
    }
  }
}

inline int64_t packed_block_bytes(BlockFormat format) {
  return with_format(
      format, []<typename Format>() { return PackedBlock<Format>::bytes; },
      []<typename Format>() { return int64_t{0}; });
}

inline void pack(BlockFormat format, const uint8_t* weights, int64_t rows, int64_t columns,
                 uint8_t* packed) {
  with_format(
      format, [=]<typename Format>() { pack_rows<Format>(weights, rows, columns, packed); },
      []<typename Format>() {});
}

}  // namespace rocmforge::ROCMFORGE_LAYER
