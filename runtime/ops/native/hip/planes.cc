#include "planes.h"

#include "../kernels/simd_scalar.h"

#define ROCMFORGE_LAYER scalar
#include "../kernels/block_formats.h"
#include "../kernels/codebook_formats.h"
#include "../kernels/with_format.h"

namespace rocmforge::hip {
namespace {

using scalar::with_format;

// Formats with the same bits a weight and scales at the same places are read by the same kernels.
const char* variant(BlockFormat format) {
  switch (format) {
    case BlockFormat::f32:
      return "f32";
    case BlockFormat::f16:
    case BlockFormat::nvfp4:
    case BlockFormat::q1_0:
      return "f16";
    case BlockFormat::bf16:
      return "bf16";
    case BlockFormat::q4_0:
      return "q4_0";
    case BlockFormat::q4_1:
      return "q4_1";
    case BlockFormat::q5_0:
      return "q5_0";
    case BlockFormat::q5_1:
      return "q5_1";
    case BlockFormat::q8_0:
      return "q8_0";
    case BlockFormat::q2_k:
    case BlockFormat::tq1_0:
    case BlockFormat::tq2_0:
      return "q2_k";
    case BlockFormat::q3_k:
      return "q3_k";
    case BlockFormat::q4_k:
      return "q4_k";
    case BlockFormat::q5_k:
      return "q5_k";
    case BlockFormat::q6_k:
      return "q6_k";
    case BlockFormat::iq4_nl:
      return "iq4_nl";
    case BlockFormat::mxfp4:
      return "mxfp4";
    case BlockFormat::iq4_xs:
    case BlockFormat::iq2_xxs:
    case BlockFormat::iq3_xxs:
    case BlockFormat::iq3_s:
    case BlockFormat::iq1_s:
      return "iq4_xs";
    case BlockFormat::iq2_xs:
    case BlockFormat::iq2_s:
    case BlockFormat::iq1_m:
      break;
  }
  return "iq2_s";
}

// Formats whose weights are float16 in the planes, which has all of their values.
template <typename Format>
constexpr bool is_decoded =
    Format::shape.format == BlockFormat::nvfp4 || Format::shape.format == BlockFormat::q1_0;

template <typename Format>
void decode_row(const uint8_t* block, int64_t columns, uint8_t* plane) {
  auto* to = reinterpret_cast<Half*>(plane);
  constexpr int parts = Format::shape.columns / part_columns;
  constexpr int64_t some = part_columns / Format::scales;
  for (int64_t at = 0; at < columns; at += Format::shape.columns, block += Format::shape.bytes) {
    const float unit = float_of_half(Format::unit(block)) * Format::unit_factor;
    for (int part = 0; part < parts; ++part) {
      uint8_t codes[part_columns];
      Format::codes(block, part, codes);
      for (int64_t i = 0; i < part_columns; ++i) {
        const int sub = Format::sub_scale(block, part, static_cast<int>(i / some));
        const int value = Format::table_value(codes[i]) - Format::zero_point;
        *to++ = half_of_float(unit * scalar::sub_value<Format>(sub) * static_cast<float>(value));
      }
    }
  }
}

// How a format stands in the planes of its variant, which may have more than the format itself:
// ternary formats have sub-scales of 1 and minimums of 0.
template <typename Format>
struct Planes {
  static constexpr bool is_q2_k = Format::low_bits == 2 && Format::high_bits == 0;
  static constexpr bool has_minimum = Format::has_minimum || is_q2_k;
  static constexpr bool has_sub_scales = Format::has_sub_scales || is_q2_k;
  static constexpr int scales = is_q2_k ? 2 : Format::scales;

  static constexpr int64_t code_bytes = Format::low_bits * 4;
  static constexpr int64_t high_bytes = Format::high_bits * 4;
  static constexpr int64_t sub_bytes = has_sub_scales ? scales * (has_minimum ? 2 : 1) : 0;
  static constexpr int64_t unit_count = has_minimum ? 2 : 1;
};

// Code i of `width` bits at bit i * width of the plane.
void put_bits(const uint8_t* codes, int shift, int width, uint8_t* plane) {
  const int in_byte = 8 / width;
  for (int i = 0; i < part_columns; ++i) {
    const int bits = codes[i] >> shift & ((1 << width) - 1);
    plane[i / in_byte] |= static_cast<uint8_t>(bits << i % in_byte * width);
  }
}

template <typename Format>
void put_codes(const uint8_t* codes, uint8_t* low, uint8_t* high) {
  if constexpr (Format::low_bits == 8) {
    std::memcpy(low, codes, part_columns);
  } else if constexpr (Format::low_bits == 4) {
    for (int i = 0; i < 16; ++i) {
      low[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
    }
  } else {
    put_bits(codes, 0, Format::low_bits, low);
  }
  if constexpr (Format::high_bits > 0) {
    put_bits(codes, Format::low_bits, Format::high_bits, high);
  }
}

// `planes` are zero.
template <typename Format>
void split_row(const uint8_t* block, int64_t columns, uint8_t* const planes[plane_count]) {
  using Of = Planes<Format>;
  constexpr int parts = Format::shape.columns / part_columns;
  uint8_t *low = planes[0], *high = planes[1];
  auto* subs = reinterpret_cast<int8_t*>(planes[2]);
  auto* units = reinterpret_cast<Half*>(planes[3]);
  for (int64_t at = 0; at < columns; at += Format::shape.columns, block += Format::shape.bytes) {
    *units++ = Format::unit(block);
    if constexpr (Of::has_minimum) *units++ = Format::minimum_unit(block);
    for (int part = 0; part < parts; ++part) {
      uint8_t codes[part_columns];
      Format::codes(block, part, codes);
      put_codes<Format>(codes, low, high);
      low += Of::code_bytes, high += Of::high_bytes;
      if constexpr (Of::has_sub_scales) {
        for (int half = 0; half < Of::scales; ++half) {
          *subs++ = static_cast<int8_t>(Format::sub_scale(block, part, half));
          if constexpr (Of::has_minimum) {
            *subs++ = static_cast<int8_t>(Format::sub_minimum(block, part, half));
          }
        }
      }
    }
  }
}

template <typename Format>
PlaneLayout layout_of(int64_t columns) {
  using Of = Planes<Format>;
  if constexpr (is_decoded<Format>) {
    const int64_t bytes = columns * int64_t{sizeof(Half)};
    return {variant(Format::shape.format), {bytes, 0, 0, 0}, {}, 1.0f, 0};
  }
  const int64_t parts = columns / part_columns, blocks = columns / Format::shape.columns;
  PlaneLayout layout{variant(Format::shape.format),
                     {parts * Of::code_bytes, parts * Of::high_bytes, parts * Of::sub_bytes,
                      blocks * Of::unit_count * int64_t{sizeof(Half)}},
                     {},
                     Format::unit_factor,
                     Format::has_table ? 0 : Format::zero_point};
  // Here a table's values are signed, so nothing is taken from them.
  if constexpr (Format::has_table) {
    int8_t values[16];
    for (int i = 0; i < 16; ++i) {
      values[i] = static_cast<int8_t>(Format::table_value(i) - Format::zero_point);
    }
    std::memcpy(layout.table, values, sizeof values);
  }
  return layout;
}

}  // namespace

PlaneLayout plane_layout(BlockFormat format, int64_t columns) {
  return with_format(
      format, [=]<typename Format>() { return layout_of<Format>(columns); },
      [=]<typename Format>() {
        const int64_t bytes = columns * int64_t{sizeof(typename Format::Stored)};
        return PlaneLayout{variant(format), {bytes, 0, 0, 0}, {}, 1.0f, 0};
      });
}

void split_into_planes(BlockFormat format, const uint8_t* blocks, int64_t rows, int64_t columns,
                       uint8_t* const planes[plane_count]) {
  const PlaneLayout layout = plane_layout(format, columns);
  for (int i = 0; i < plane_count; ++i) {
    std::memset(planes[i], 0, static_cast<size_t>(rows * layout.row_bytes[i]));
  }
  const int64_t row_bytes = columns / block_shape(format).columns * block_shape(format).bytes;
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* of_row[plane_count];
    for (int i = 0; i < plane_count; ++i) of_row[i] = planes[i] + row * layout.row_bytes[i];
    const uint8_t* from = blocks + row * row_bytes;
    with_format(
        format,
        [&]<typename Format>() {
          if constexpr (is_decoded<Format>) {
            decode_row<Format>(from, columns, of_row[0]);
          } else {
            split_row<Format>(from, columns, of_row);
          }
        },
        [&]<typename Format>() {
          std::memcpy(of_row[0], from, static_cast<size_t>(layout.row_bytes[0]));
        });
  }
}

}  // namespace rocmforge::hip
