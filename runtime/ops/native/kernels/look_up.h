// One row of weights as float32.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

template <typename Format>
inline void look_up_blocks(const uint8_t* row, int64_t columns, float* out) {
  for (int64_t at = 0; at < columns; at += Format::shape.columns, row += Format::shape.bytes) {
    float first[lanes];
    uint8_t codes[32];
    store(first, Format::scales(row, 0));
    const float scale = first[0];
    store(first, Format::minimums(row, 0));
    const float minimum = first[0];
    store_codes(codes, Format::codes(row));
    for (int i = 0; i < 32; ++i) {
      const int code = Format::is_signed ? static_cast<int8_t>(codes[i]) : codes[i];
      const float value = scale * static_cast<float>(code - Format::zero_point);
      out[at + i] = Format::has_minimum ? value + minimum : value;
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

}  // namespace rocmforge::ROCMFORGE_LAYER
