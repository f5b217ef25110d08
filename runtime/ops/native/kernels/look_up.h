// One row of weights as float32, from rows as in the file and from packed ones.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

// `columns` weights of one scale.
template <typename Format>
inline void scale_codes(const uint8_t* codes, int count, float scale, float minimum, float* out) {
  for (int i = 0; i < count; ++i) {
    int code = codes[i];
    if constexpr (Format::has_table) {
      code = Format::table_value(code);
    } else if constexpr (Format::is_signed) {
      code = static_cast<int8_t>(codes[i]);
    }
    const float value = scale * static_cast<float>(code - Format::zero_point);
    out[i] = Format::has_minimum ? value + minimum : value;
  }
}

template <typename Format>
inline void look_up_blocks(const uint8_t* block, int64_t columns, float* out) {
  constexpr int some = activation_block / Format::scales;
  for (int64_t at = 0; at < columns; block += Format::shape.bytes) {
    const float unit = unit_of<Format>(Format::unit(block));
    const float minimum = unit_of<Format>(Format::minimum_unit(block));
    for (int part = 0; part < PackedBlock<Format>::parts; ++part) {
      uint8_t codes[activation_block];
      Format::codes(block, part, codes);
      for (int half = 0; half < Format::scales; ++half, at += some) {
        float scale = unit, lift = minimum;
        if constexpr (Format::has_sub_scales) {
          scale *= sub_value<Format>(Format::sub_scale(block, part, half));
          lift *= static_cast<float>(Format::sub_minimum(block, part, half));
        }
        scale_codes<Format>(codes + half * some, some, scale, lift, out + at);
      }
    }
  }
}

// The 32 codes of one lane of a packed part.
template <typename Format>
inline void unpack_codes(const uint8_t* part, int64_t lane, uint8_t* codes) {
  constexpr int low = Format::low_bits, high = Format::high_bits;
  constexpr uint8_t offset = Format::is_signed && !Format::has_table ? signed_offset : 0;
  for (int i = 0; i < activation_block; ++i) {
    const int g = i / 4;
    const int64_t within = lane * 4 + i % 4;
    int code = part[g % low * group_bytes + within] >> (g / low * low) & ((1 << low) - 1);
    if constexpr (high != 0) {
      const uint8_t upper = part[PackedBlock<Format>::low_bytes + g % high * group_bytes + within];
      code |= (upper >> (g / high * high) & ((1 << high) - 1)) << low;
    }
    codes[column_at<Format>(i)] = static_cast<uint8_t>(code - offset);
  }
}

template <typename Format>
inline void look_up_packed_row(const uint8_t* block, int64_t lane, int64_t columns, float* out) {
  using Block = PackedBlock<Format>;
  constexpr int some = activation_block / Format::scales;
  for (int64_t at = 0; at < columns; block += Block::bytes) {
    const auto* units = reinterpret_cast<const Half*>(block + Block::units_at);
    const float unit = unit_of<Format>(units[lane]);
    const float minimum = Format::has_minimum ? unit_of<Format>(units[lanes + lane]) : 0;
    for (int part = 0; part < Block::parts; ++part) {
      const uint8_t* packed = block + part * Block::part_bytes;
      const auto* subs = reinterpret_cast<const int8_t*>(packed) + Block::code_bytes + lane;
      uint8_t codes[activation_block];
      unpack_codes<Format>(packed, lane, codes);
      for (int half = 0; half < Format::scales; ++half, at += some) {
        float scale = unit, lift = minimum;
        if constexpr (Format::has_sub_scales) {
          scale *= sub_value<Format>(subs[half * lanes]);
          if constexpr (Format::has_minimum) lift *= subs[(Format::scales + half) * lanes];
        }
        scale_codes<Format>(codes + half * some, some, scale, lift, out + at);
      }
    }
  }
}

template <typename Format>
inline void look_up_plain(const uint8_t* row, int64_t columns, float* out) {
  using Stored = typename Format::Stored;
  const auto* values = reinterpret_cast<const Stored*>(row);
  each_vector(columns, [=](int64_t at, int64_t some) {
    if (some == lanes) {
      store(out + at, Format::load(values + at));
    } else {
      Stored rest[lanes] = {};
      std::memcpy(rest, values + at, static_cast<size_t>(some) * sizeof(Stored));
      store_first(out + at, Format::load(rest), some);
    }
  });
}

inline void look_up(BlockFormat format, const uint8_t* row, int64_t columns, float* out) {
  with_format(
      format, [=]<typename Format>() { look_up_blocks<Format>(row, columns, out); },
      [=]<typename Format>() { look_up_plain<Format>(row, columns, out); });
}

inline void look_up_packed(BlockFormat format, const uint8_t* packed, int64_t row, int64_t columns,
                           float* out) {
  with_format(
      format,
      [=]<typename Format>() {
        const int64_t panel_bytes = columns / Format::shape.columns * PackedBlock<Format>::bytes;
        look_up_packed_row<Format>(packed + row / lanes * panel_bytes, row % lanes, columns, out);
      },
      []<typename Format>() {});
}

}  // namespace rocmforge::ROCMFORGE_LAYER
