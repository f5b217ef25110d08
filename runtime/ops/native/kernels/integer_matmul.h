// Weights in integer block formats times activations rounded to 8 bits (see QuantizedRows).
//
// The sum inside a block is exact in integers, and blocks are added in order by one chain of fused
// multiply-adds: so every path, tile and instruction set gives the same bits.
//   y = sum over blocks of fma(dot, weight scale * activation scale) + sum of fma(minimum, sum)
#pragma once

namespace rocmforge::ROCMFORGE_LAYER {

template <typename Format>
constexpr int offset_of_codes = Format::zero_point + (Format::is_signed ? signed_offset : 0);

// The running sums of `lanes` outputs.
template <typename Format>
struct Accumulator {
  F32 scaled = broadcast(0.0f);
  F32 lifted = broadcast(0.0f);

  void add_block(I32 dots, int32_t code_sum, F32 scales, float x_scale, F32 minimums, float x_sum) {
    if constexpr (offset_of_codes<Format> != 0) {
      dots = subtract(dots, broadcast(offset_of_codes<Format> * code_sum));
    }
    scaled = fma(to_float(dots), multiply(scales, broadcast(x_scale)), scaled);
    if constexpr (Format::has_minimum) lifted = fma(minimums, broadcast(x_sum), lifted);
  }

  F32 total() const {
    if constexpr (Format::has_minimum) return add(scaled, lifted);
    return scaled;
  }
};

// One output: for the last weight rows, which are no whole panel.
template <typename Format>
inline void single(const MatMul& args, int64_t m, int64_t n) {
  const int64_t blocks = args.columns / activation_block;
  const uint8_t* block = args.weights + n * args.row_bytes;
  const QuantizedRows& x = args.quantized;
  Accumulator<Format> accumulator;
  for (int64_t b = 0; b < blocks; ++b, block += Format::shape.bytes) {
    const int64_t at = m * blocks + b;
    const Products products = dot<Format>(Format::codes(block), activations_at(args, m, b));
    accumulator.add_block(broadcast(sum(products)), x.code_sums[at], Format::scales(block, 0),
                          x.scales[at], Format::minimums(block, 0), x.sums[at]);
  }
  F32 total = accumulator.total();
  if (args.bias != nullptr) total = add(total, broadcast(args.bias[n]));
  store_first(args.y + m * args.outputs + n, total, 1);
}

// The outputs of a panel; the last panel of packed weights may have rows that are none.
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

// Short rows are streams too short for the hardware to foresee: fetch the next panel meanwhile.
template <typename Format>
inline void prefetch_next_panel(const MatMul& args, const uint8_t* panel, int64_t b) {
  constexpr int64_t reach = 32 << 10;
  constexpr int64_t bytes = lanes * Format::shape.bytes, line = 64;
  if (lanes * args.row_bytes > reach) return;
  const uint8_t* next = panel + lanes * args.row_bytes + b * bytes;
  for (int64_t at = 0; at < bytes; at += line) __builtin_prefetch(next + at);
}

// One row of x (decode): the panel's blocks go from memory to registers once.
template <typename Format>
inline void panel_by_row(const MatMul& args, int64_t m, int64_t n) {
  const int64_t blocks = args.columns / activation_block;
  const uint8_t* panel = args.weights + n * args.row_bytes;
  const uint8_t* block = panel;
  const QuantizedRows& x = args.quantized;
  Accumulator<Format> accumulator;
  for (int64_t b = 0; b < blocks; ++b, block += Format::shape.bytes) {
    prefetch_next_panel<Format>(args, panel, b);
    const Activations activations = activations_at(args, m, b);
    Products products[lanes];
    for (int i = 0; i < lanes; ++i) {
      products[i] = dot<Format>(Format::codes(block + i * args.row_bytes), activations);
    }
    const int64_t at = m * blocks + b;
    accumulator.add_block(sums(products), x.code_sums[at], Format::scales(block, args.row_bytes),
                          x.scales[at], Format::minimums(block, args.row_bytes), x.sums[at]);
  }
  store_outputs(args, m, n, accumulator.total());
}

// A panel of rows as in the file, unpacked for many rows of x: codes [blocks][32 * lanes], scales
// and minimums [blocks][lanes].
template <typename Format>
struct UnpackedPanel {
  uint8_t* codes;
  float* scale_values;
  float* minimum_values;

  static int64_t bytes(int64_t blocks) { return blocks * lanes * (32 + 2 * 4); }
  UnpackedPanel(void* scratch, int64_t blocks)
      : codes(static_cast<uint8_t*>(scratch)),
        scale_values(reinterpret_cast<float*>(codes + blocks * lanes * 32)),
        minimum_values(scale_values + blocks * lanes) {}

  void fill(const MatMul& args, int64_t n) const {
    const int64_t blocks = args.columns / activation_block;
    const uint8_t* block = args.weights + n * args.row_bytes;
    for (int64_t b = 0; b < blocks; ++b, block += Format::shape.bytes) {
      Codes rows[lanes];
      for (int i = 0; i < lanes; ++i) rows[i] = Format::codes(block + i * args.row_bytes);
      store_panel<Format>(rows, codes + b * 32 * lanes);
      store(scale_values + b * lanes, Format::scales(block, args.row_bytes));
      if constexpr (Format::has_minimum) {
        store(minimum_values + b * lanes, Format::minimums(block, args.row_bytes));
      }
    }
  }

  PanelCodes<8> block(int64_t b) const { return {codes + b * 32 * lanes}; }
  F32 scales(int64_t b) const { return load(scale_values + b * lanes); }
  F32 minimums(int64_t b) const { return load(minimum_values + b * lanes); }
  void prefetch(int64_t) const {}  // it is in the cache
};

template <typename Format, int rows, typename Panel>
inline void tile(const MatMul& args, int64_t m, int64_t n, const Panel& panel) {
  const int64_t blocks = args.columns / activation_block;
  const QuantizedRows& x = args.quantized;
  Accumulator<Format> accumulators[rows];
  for (int64_t b = 0; b < blocks; ++b) {
    I32 dots[rows];
    if constexpr (rows == 1) panel.prefetch(b);
    dot_panel<Format, rows>(panel.block(b), activations_at(args, m, b), dots);
    const F32 scales = panel.scales(b);
    F32 minimums = scales;
    if constexpr (Format::has_minimum) minimums = panel.minimums(b);
    for (int i = 0; i < rows; ++i) {
      const int64_t at = (m + i) * blocks + b;
      accumulators[i].add_block(dots[i], x.code_sums[at], scales, x.scales[at], minimums,
                                x.sums[at]);
    }
  }
  for (int i = 0; i < rows; ++i) store_outputs(args, m + i, n, accumulators[i].total());
}

// Rows [m, end) in the largest tiles that fit.
template <typename Format, int rows, typename Panel>
inline void tiles(const MatMul& args, int64_t m, int64_t end, int64_t n, const Panel& panel) {
  for (; m + rows <= end; m += rows) tile<Format, rows>(args, m, n, panel);
  if constexpr (rows > 1) tiles<Format, rows / 2>(args, m, end, n, panel);
}

template <typename Format>
inline void integer_matmul(const MatMul& args, Span rows, Span panels, void* scratch) {
  const int64_t blocks = args.columns / activation_block;
  const UnpackedPanel<Format> unpacked(scratch, blocks);
  for (int64_t p = panels.begin; p < panels.end; ++p) {
    const int64_t n = p * lanes;
    if (args.packed) {
      tiles<Format, tile_rows>(args, rows.begin, rows.end, n, PackedPanel<Format>(args, p));
    } else if (n + lanes > args.outputs) {
      for (int64_t m = rows.begin; m < rows.end; ++m) {
        for (int64_t last = n; last < args.outputs; ++last) single<Format>(args, m, last);
      }
    } else if (rows.end - rows.begin == 1) {
      panel_by_row<Format>(args, rows.begin, n);
    } else {
      unpacked.fill(args, n);
      tiles<Format, tile_rows>(args, rows.begin, rows.end, n, unpacked);
    }
  }
}

}  // namespace rocmforge::ROCMFORGE_LAYER
