// Weights rewritten so that kernels read them at the speed of the memory.
//
// A panel is `lanes` weight rows; for each block of 32 columns it holds, one behind the other, the
// codes [8 groups of 4 columns][lanes][4], the scales [lanes] and perhaps the minimums [lanes] as
// float16. Codes of 4 bits lie two in a byte: group g low, group g + 4 high. The same bits a weight
// as in the file; rows that fill up the last panel are zero.
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

template <typename Format>
struct PackedBlock {
  static constexpr int bits = Format::largest_code < 16 ? 4 : 8;
  static constexpr int64_t code_bytes = lanes * 32 * bits / 8;
  static constexpr int64_t bytes = code_bytes + lanes * (Format::has_minimum ? 4 : 2);
};

// A packed panel, as the matmul's tiles read it.
template <typename Format>
struct PackedPanel {
  using Block = PackedBlock<Format>;
  const uint8_t* blocks;

  PackedPanel(const MatMul& args, int64_t panel)
      : blocks(args.weights + panel * (args.columns / activation_block) * Block::bytes) {}

  PanelCodes<Block::bits> block(int64_t b) const { return {blocks + b * Block::bytes}; }
  F32 scales(int64_t b) const { return load_half(halves(b)); }
  F32 minimums(int64_t b) const { return load_half(halves(b) + lanes); }
  void prefetch(int64_t b) const {
    constexpr int64_t ahead = 2048, line = 64;
    for (int64_t at = 0; at < Block::bytes; at += line) {
      __builtin_prefetch(blocks + b * Block::bytes + at + ahead);
    }
  }

 private:
  const Half* halves(int64_t b) const {
    return reinterpret_cast<const Half*>(blocks + b * Block::bytes + Block::code_bytes);
  }
};

// One block of every row of a panel, from rows [lanes][Format::shape.bytes].
template <typename Format>
inline void pack_block(const uint8_t* rows, uint8_t* packed) {
  using Block = PackedBlock<Format>;
  constexpr int64_t stride = Format::shape.bytes;
  Codes codes[lanes];
  uint8_t bytes[32 * lanes];
  for (int i = 0; i < lanes; ++i) codes[i] = Format::codes(rows + i * stride);
  store_panel<Format>(codes, bytes);
  for (int64_t i = 0; i < Block::code_bytes; ++i) {
    packed[i] = bytes[i];
    if constexpr (Block::bits == 4) {
      packed[i] |= static_cast<uint8_t>(bytes[i + Block::code_bytes] << 4);
    }
  }
  auto* halves = reinterpret_cast<Half*>(packed + Block::code_bytes);
  store_half(halves, Format::scales(rows, stride));
  if constexpr (Format::has_minimum) store_half(halves + lanes, Format::minimums(rows, stride));
}

template <typename Format>
inline void pack_rows(const uint8_t* weights, int64_t rows, int64_t columns, uint8_t* packed) {
  constexpr int64_t stride = Format::shape.bytes;
  const int64_t blocks = columns / activation_block;
  for (int64_t n = 0; n < rows; n += lanes) {
    for (int64_t b = 0; b < blocks; ++b, packed += PackedBlock<Format>::bytes) {
      uint8_t block_of_rows[lanes * stride] = {};
      for (int64_t i = 0; i < lanes && n + i < rows; ++i) {
        std::memcpy(block_of_rows + i * stride, weights + ((n + i) * blocks + b) * stride,
                    static_cast<size_t>(stride));
      }
      pack_block<Format>(block_of_rows, packed);
    }
  }
}

template <typename Format>
inline void look_up_packed_row(const uint8_t* packed, int64_t row, int64_t columns, float* out) {
  using Block = PackedBlock<Format>;
  const int64_t lane = row % lanes;
  packed += row / lanes * (columns / activation_block) * Block::bytes;
  for (int64_t at = 0; at < columns; at += activation_block, packed += Block::bytes) {
    const auto* halves = reinterpret_cast<const Half*>(packed + Block::code_bytes);
    const float scale = float_of_half(halves[lane]);
    const float minimum = Format::has_minimum ? float_of_half(halves[lanes + lane]) : 0;
    for (int i = 0; i < activation_block; ++i) {
      const int group = i / 4 % (Block::bits == 4 ? 4 : 8);
      const uint8_t byte = packed[(group * lanes + lane) * 4 + i % 4];
      int code = byte;
      if constexpr (Block::bits == 4) code = i < 16 ? byte & 15 : byte >> 4;
      if constexpr (Format::is_signed) {
        code = static_cast<int8_t>(static_cast<uint8_t>(byte - signed_offset));
      }
      const float value = scale * static_cast<float>(code - Format::zero_point);
      out[at + i] = Format::has_minimum ? value + minimum : value;
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

inline void look_up_packed(BlockFormat format, const uint8_t* packed, int64_t row, int64_t columns,
                           float* out) {
  with_format(
      format, [=]<typename Format>() { look_up_packed_row<Format>(packed, row, columns, out); },
      []<typename Format>() {});
}

}  // namespace rocmforge::ROCMFORGE_LAYER
