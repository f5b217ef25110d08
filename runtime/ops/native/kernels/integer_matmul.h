// Weights in integer block formats times activations rounded to 8 bits (see ActivationBlock).
//
// The sum under one weight scale is exact in integers, and those are added in order by one chain of
// fused multiply-adds: so every path, tile and instruction set gives the same bits.
//   y = activation scale * chain over blocks of fma(dot, weight scale), fma(minimum, sum)
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

template <typename Format>
constexpr int offset_of_codes = Format::zero_point + (Format::is_signed ? signed_offset : 0);

// A panel decoded once for many rows of x, from memory or from rows as in the file: a part's codes
// are 8 groups, one behind the other.
template <typename Format>
struct UnpackedPart {
  static constexpr bool in_memory = false;
  static constexpr int64_t floats = Format::scales * (Format::has_minimum ? 2 : 1) * lanes;
  static constexpr int64_t bytes = 8 * group_bytes + floats * 4;
  uint8_t* part;

  Bytes group(int g) const { return load_bytes(part + g * group_bytes); }
  F32 scales(int half) const { return load(values() + half * lanes); }
  F32 minimums(int half) const { return load(values() + (Format::scales + half) * lanes); }
  float* values() const { return reinterpret_cast<float*>(part + 8 * group_bytes); }
  template <int>
  void prefetch() const {}
};

template <typename Format>
struct UnpackedPanel {
  uint8_t* parts;

  static int64_t bytes(const MatMul& args) {
    return args.columns / activation_block * UnpackedPart<Format>::bytes;
  }
  UnpackedPart<Format> at(int64_t b) const { return {parts + b * UnpackedPart<Format>::bytes}; }

  void fill(const MatMul& args, const PackedPanel<Format>& packed) const {
    const int64_t blocks = args.columns / activation_block;
    for (int64_t b = 0; b < blocks; ++b) {
      const PackedPart<Format> from = packed.at(b);
      const UnpackedPart<Format> to = at(b);
      from.template prefetch<1>();
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) store_bytes(to.part + g * group_bytes, from.group(g));
      for (int half = 0; half < Format::scales; ++half) {
        store(to.values() + half * lanes, from.scales(half));
        if constexpr (Format::has_minimum) {
          store(to.values() + (Format::scales + half) * lanes, from.minimums(half));
        }
      }
    }
  }

  void fill_from_file(const MatMul& args, int64_t n) const {
    const int64_t file_blocks = args.columns / Format::shape.columns;
    constexpr int64_t parts_of_block = PackedBlock<Format>::parts;
    if (n + lanes > args.outputs) std::memset(parts, 0, static_cast<size_t>(bytes(args)));
    for (int lane = 0; lane < lanes && n + lane < args.outputs; ++lane) {
      const uint8_t* block = args.weights + (n + lane) * args.row_bytes;
      for (int64_t b = 0; b < file_blocks; ++b, block += Format::shape.bytes) {
        fill_lane(block, lane, b * parts_of_block);
      }
    }
    if constexpr (Format::has_table) {
      for (int64_t b = 0; b < args.columns / activation_block; ++b) {
        for (int g = 0; g < 8; ++g) {
          uint8_t* codes = at(b).part + g * group_bytes;
          store_bytes(codes, look_up(code_table<Format>.values, load_bytes(codes)));
        }
      }
    }
  }

 private:
  // One row's block, whose parts begin at part b.
  void fill_lane(const uint8_t* block, int lane, int64_t b) const {
    const float unit = unit_of<Format>(Format::unit(block));
    const float minimum_unit = unit_of<Format>(Format::minimum_unit(block));
    for (int part = 0; part < PackedBlock<Format>::parts; ++part) {
      const UnpackedPart<Format> to = at(b + part);
      uint8_t codes[activation_block];
      Format::codes(block, part, codes);
      if constexpr (Format::is_signed && !Format::has_table && signed_offset != 0) {
        for (uint8_t& code : codes) code = static_cast<uint8_t>(code + signed_offset);
      }
      for (int i = 0; i < activation_block; ++i) {
        to.part[i / 4 * group_bytes + lane * 4 + i % 4] = codes[column_at<Format>(i)];
      }
      for (int half = 0; half < Format::scales; ++half) {
        float scale = unit, minimum = minimum_unit;
        if constexpr (Format::has_sub_scales) {
          scale *= sub_value<Format>(Format::sub_scale(block, part, half));
          minimum *= static_cast<float>(Format::sub_minimum(block, part, half));
        }
        to.values()[half * lanes + lane] = scale;
        if constexpr (Format::has_minimum) {
          to.values()[(Format::scales + half) * lanes + lane] = minimum;
        }
      }
    }
  }
};

// The outputs of a panel; the last panel may have rows that are none.
inline void store_outputs(const MatMul& args, int64_t m, int64_t n, F32 total) {
  float* y = args.y + m * args.outputs + n;
  const int64_t some = args.outputs - n;
  if (some >= lanes) {
    store(y, args.bias == nullptr ? total : add(total, load(args.bias + n)));
  } else {
    const F32 bias = args.bias == nullptr ? broadcast(0.0f) : load_first(args.bias + n, some);
    store_first(y, add(total, bias), some);
  }
}

// Dots of one scale's columns with `rows` rows of x, of which the first is row first_row of x[0].
template <int scales, int rows, typename Part, typename Block>
inline void narrow_dots(const Part& part, int half, const Block* x, int64_t blocks, int first_row,
                        I32 (&dots)[rows]) {
  constexpr int halves = 2 / scales;
#pragma GCC unroll 2
  for (int h = half * halves; h < (half + 1) * halves; ++h) {
    Pairs sums[rows];
#pragma GCC unroll 4
    for (int g = 4 * h; g < 4 * h + 4; ++g) {
      const Bytes codes = part.group(g);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const Block& block = x[i / Block::interleaved * blocks];
        const Pairs some = pair_products(codes, block.pairs[g][first_row + i % Block::interleaved]);
        sums[i] = g == 4 * h ? some : add(sums[i], some);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Block& block = x[i / Block::interleaved * blocks];
      const int32_t multipliers = block.pair_multipliers[h][first_row + i % Block::interleaved];
      dots[i] = add_products(h == half * halves ? no_products() : dots[i], sums[i], multipliers);
    }
  }
}

template <typename Format, int rows, typename Part, typename Block>
inline void wide_dots(const Part& part, int half, const Block* x, int64_t blocks, int first_row,
                      I32 (&dots)[rows]) {
  constexpr int groups = 4 / Format::scales;
#pragma GCC unroll 4
  for (int g = half * groups; g < (half + 1) * groups; ++g) {
    const Bytes first = part.group(2 * g), second = part.group(2 * g + 1);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Block& block = x[i / Block::interleaved * blocks];
      const int row = first_row + i % Block::interleaved;
      const I32 sums = products<Format>(first, second, block.quads[2 * g][row],
                                        block.quads[2 * g + 1][row], block.multipliers[g][row]);
      dots[i] = g == half * groups ? sums : add(dots[i], sums);
    }
  }
}

// `rows` rows of x from m on; they do not straddle a tile of interleaved rows.
template <typename Format, int rows, int interleaved = interleaved_rows, typename Panel>
inline void tile(const MatMul& args, int64_t m, int64_t n, const Panel& panel) {
  constexpr int scales = Format::scales;
  const int64_t blocks = args.columns / activation_block;
  const int64_t at = args.quantized.first + m;
  using Block = ActivationBlock<interleaved>;
  const int first_row = rows < interleaved ? static_cast<int>(at % interleaved) : 0;
  const Block* x = args.quantized.tile<interleaved>(at, args.columns);
  F32 totals[rows];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) totals[i] = broadcast(0.0f);
  for (int64_t b = 0; b < blocks; ++b, ++x) {
    const auto part = panel.at(b);
    part.template prefetch<rows>();
#pragma GCC unroll 2
    for (int half = 0; half < scales; ++half) {
      I32 dots[rows];
      if constexpr (is_narrow<Format>) {
        narrow_dots<scales>(part, half, x, blocks, first_row, dots);
      } else {
        wide_dots<Format>(part, half, x, blocks, first_row, dots);
      }
      const int span = scales == 1 ? 0 : 1 + half;  // of ActivationBlock's sums
      const F32 scale = part.scales(half);
      F32 minimum = scale;
      if constexpr (Format::has_minimum) minimum = part.minimums(half);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const Block& block = x[i / Block::interleaved * blocks];
        const int row = first_row + i % Block::interleaved;
        if constexpr (offset_of_codes<Format> != 0) {
          dots[i] = subtract_multiple<offset_of_codes<Format>>(dots[i], block.code_sums[span][row]);
        }
        totals[i] = fma(to_float(dots[i]), scale, totals[i]);
        if constexpr (Format::has_minimum) {
          totals[i] = fma(minimum, broadcast(block.sums[span][row]), totals[i]);
        }
      }
    }
  }
  x -= blocks;
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    const Block& block = x[i / Block::interleaved * blocks];
    const F32 scale = broadcast(block.scales[first_row + i % Block::interleaved]);
    store_outputs(args, m + i, n, multiply(totals[i], scale));
  }
}

// Rows [m, end) in the largest tiles that fit and do not straddle.
template <typename Format, typename Panel>
inline void tiles(const MatMul& args, int64_t m, int64_t end, int64_t n, const Panel& panel) {
  if (args.quantized.alone) return tile<Format, 1, 1>(args, m, n, panel);
  while (m < end) {
    const int64_t within = (args.quantized.first + m) % interleaved_rows, left = end - m;
    if (within == 0 && left >= tile_rows) {
      tile<Format, tile_rows>(args, m, n, panel);
      m += tile_rows;
    } else if (within == 0 && left >= 4) {
      tile<Format, 4>(args, m, n, panel);
      m += 4;
    } else if (within % 2 == 0 && left >= 2) {
      tile<Format, 2>(args, m, n, panel);
      m += 2;
    } else {
      tile<Format, 1>(args, m++, n, panel);
    }
  }
}

// Bytes of unpacked panels that stay in the first-level cache with a tile's activations.
constexpr int64_t unpacked_bytes = 16 << 10;

// Unpacked panels that are multiplied together, so that activations are read less often.
template <typename Format>
inline int64_t panels_together(const MatMul& args) {
  const int64_t some = unpacked_bytes / UnpackedPanel<Format>::bytes(args);
  return some < 1 ? 1 : some;
}

// Asks for part `slice` of `slices` of the packed panels from `panel` on, which the next round will
// unpack: so memory works while this round is multiplied.
template <typename Format>
inline void fetch_panels(const MatMul& args, int64_t panel, int64_t count, int64_t slice,
                         int64_t slices) {
  const int64_t rest = (args.outputs + lanes - 1) / lanes - panel;
  const int64_t some = count < rest ? count : rest;
  const int64_t lines = args.columns / Format::shape.columns * PackedBlock<Format>::bytes / 64;
  const uint8_t* from = PackedPanel<Format>(args, panel).blocks;
  for (int64_t i = some * lines * slice / slices; i < some * lines * (slice + 1) / slices; ++i) {
    __builtin_prefetch(from + i * 64, 0, 2);
  }
}

template <typename Format>
inline void integer_matmul(const MatMul& args, Span rows, Span panels, void* scratch) {
  if (args.packed && rows.end - rows.begin < unpacked_from) {
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      tiles<Format>(args, rows.begin, rows.end, p * lanes, PackedPanel<Format>(args, p));
    }
    return;
  }
  const int64_t together = panels_together<Format>(args);
  const auto unpacked = [&](int64_t index) {
    return UnpackedPanel<Format>{static_cast<uint8_t*>(scratch) +
                                 index * UnpackedPanel<Format>::bytes(args)};
  };
  for (int64_t p = panels.begin; p < panels.end; p += together) {
    const int64_t some = p + together < panels.end ? together : panels.end - p;
    for (int64_t i = 0; i < some; ++i) {
      if (args.packed) {
        unpacked(i).fill(args, PackedPanel<Format>(args, p + i));
      } else {
        unpacked(i).fill_from_file(args, (p + i) * lanes);
      }
    }
    const int64_t slices = (rows.end - rows.begin + tile_rows - 1) / tile_rows;
    for (int64_t m = rows.begin, slice = 0; m < rows.end; m += tile_rows, ++slice) {
      if (args.packed) fetch_panels<Format>(args, p + some, together, slice, slices);
      const int64_t end = m + tile_rows < rows.end ? m + tile_rows : rows.end;
      for (int64_t i = 0; i < some; ++i) {
        tiles<Format>(args, m, end, (p + i) * lanes, unpacked(i));
      }
    }
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
